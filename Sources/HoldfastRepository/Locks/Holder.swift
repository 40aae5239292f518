import Glibc
import HoldfastCore

/// Who holds a lease: enough to tell an operator, and to see from the same machine that the process is gone.
package struct Holder: Codable, Sendable, Equatable {
    package var host: String
    package var process: Int32
    /// Of this boot of the host; a process of another boot is gone.
    package var bootIdentifier: String
    /// The process numbers of two containers are not comparable.
    package var processNamespace: String
    /// Clock ticks after boot at which the process started: tells it from a later one with its number.
    package var processStarted: UInt64
    /// Drawn for each holder: two of one process are two.
    package var nonce: String

    enum CodingKeys: String, CodingKey {
        case host, process, nonce
        case bootIdentifier = "boot_id"
        case processNamespace = "process_namespace"
        case processStarted = "process_started"
    }

    package init(
        host: String, process: Int32, bootIdentifier: String, processNamespace: String, processStarted: UInt64,
        nonce: String
    ) {
        self.host = host
        self.process = process
        self.bootIdentifier = bootIdentifier
        self.processNamespace = processNamespace
        self.processStarted = processStarted
        self.nonce = nonce
    }

    /// This process, with a fresh nonce.
    package static var current: Holder {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        return Holder(
            host: text(name), process: getpid(), bootIdentifier: line("/proc/sys/kernel/random/boot_id"),
            processNamespace: link("/proc/self/ns/pid"), processStarted: started(getpid()) ?? 0,
            nonce: TimelineToken.random().description)
    }

    /// `backup-host, process 4711`
    package var display: String { "\(printable(host)), process \(process)" }

    /// `true` only when this machine can tell that the process does not live any more.
    package func isKnownDead(from observer: Holder) -> Bool {
        guard host == observer.host, !bootIdentifier.isEmpty, !processNamespace.isEmpty, processStarted > 0 else {
            return false
        }
        // Another boot may be another machine of the same name; a container counts its processes by itself.
        guard bootIdentifier == observer.bootIdentifier, processNamespace == observer.processNamespace else {
            return false
        }
        if process == observer.process && processStarted == observer.processStarted { return false }
        if kill(process, 0) != 0 { return errno == ESRCH }
        guard let lives = Self.started(process) else { return false }
        return lives != processStarted
    }

    package static func boottimeNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Field 22 of `/proc/<pid>/stat`, counted behind the name, which may hold blanks and parentheses.
    private static func started(_ process: Int32) -> UInt64? {
        let stat = line("/proc/\(process)/stat")
        guard let close = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[close...].dropFirst(2).split(separator: " ")
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }

    private static func line(_ path: String) -> String {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return "" }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = read(fd, &bytes, bytes.count)
        guard count > 0 else { return "" }
        return String(decoding: bytes[..<count].prefix { $0 != 0x0A }, as: UTF8.self)
    }

    private static func link(_ path: String) -> String {
        var bytes = [CChar](repeating: 0, count: 256)
        guard readlink(path, &bytes, bytes.count - 1) > 0 else { return "" }
        return text(bytes)
    }

    private static func text(_ bytes: [CChar]) -> String {
        String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
