import Glibc

/// The directory from which relative paths of the command line count.
package enum WorkingDirectory {
    package static var path: String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&buffer, buffer.count) != nil else { return "" }
        return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    package static func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : Self.path + "/" + path }
}
