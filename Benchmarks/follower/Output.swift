import Foundation

/// A line on stdout, at once.
func say(_ line: String) {
    print(line)
    fflush(nil)
}
