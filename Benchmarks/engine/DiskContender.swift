import BenchmarkSupport
import Glibc
import HoldfastCore

/// The machine's own bound for a durable commit: an 8 KiB write into a zero-filled file, and `fdatasync`.
final class BareDisk {
    private let file: RealFile
    private let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 4096)
    private var at: UInt64 = 0

    init(_ directory: String) throws {
        file = try RealDisk(root: directory).open("bare", .create)
        page.initializeMemory(as: UInt8.self, repeating: 0)
        for index in 0..<2048 { try file.write(UnsafeRawBufferPointer(page), at: UInt64(index) * 8192) }
        try file.sync()
        page.initializeMemory(as: UInt8.self, repeating: 7)
    }

    deinit { page.deallocate() }

    func writes(_ count: Int) throws -> Double {
        Double(count)
            / (try seconds {
                for _ in 0..<count {
                    try file.write(UnsafeRawBufferPointer(page), at: at % 2048 * 8192)
                    at += 1
                    try file.sync()
                }
            })
    }
}
