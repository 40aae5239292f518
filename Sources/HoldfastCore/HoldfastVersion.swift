import Glibc

/// The version of this program, as `--version` and stored records show it.
public enum HoldfastVersion {
    public static let text = "0.1.0"
}

/// Blocks the calling thread.
package func sleepSeconds(_ seconds: Double) {
    var rest = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
    var left = timespec()
    while nanosleep(&rest, &left) != 0, errno == EINTR { rest = left }
}
