import Glibc

/// Where `dump` writes: a file descriptor, in pieces of some hundred KiB. A reader that goes away (`head`) ends the
/// dump without an error.
package final class RecordOutput {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    package private(set) var records = 0
    private static let bound = 256 << 10

    package init(descriptor: Int32 = STDOUT_FILENO) {
        self.descriptor = descriptor
        buffer.reserveCapacity(Self.bound * 2)
    }

    /// `false`: nobody reads any more.
    package func write(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) throws(RecordError) -> Bool {
        RecordText.append(key: key, value: value, to: &buffer)
        records += 1
        return buffer.count < Self.bound ? true : try flush()
    }

    @discardableResult
    package func flush() throws(RecordError) -> Bool {
        var sent = 0
        while sent < buffer.count {
            let count = buffer.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + sent, $0.count - sent)
            }
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EPIPE {
                buffer.removeAll(keepingCapacity: true)
                return false
            }
            guard count >= 0 else { throw .cannotWrite(errno: errno) }
            sent += count
        }
        buffer.removeAll(keepingCapacity: true)
        return true
    }
}

/// Where `load` reads: lines of a file descriptor, each at most as long as the longest record's.
package struct RecordInput {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var start = 0
    private var scanned = 0
    private var hasEnded = false
    /// Of the line that `next` gave last, from 1.
    package private(set) var lineNumber = 0
    /// A key of 2 KiB and a value of 64 MiB, each byte escaped.
    static let longestLine = ((64 << 20) + 2048) * 4 + 2

    package init(descriptor: Int32 = STDIN_FILENO) { self.descriptor = descriptor }

    /// The next record; `nil` at the end of the input.
    package mutating func next() throws(RecordError) -> (key: [UInt8], value: [UInt8])? {
        while true {
            if let feed = buffer[scanned...].firstIndex(of: 0x0A) {
                let line = buffer[start..<feed]
                start = feed + 1
                scanned = start
                return try parse(line)
            }
            scanned = buffer.count
            if hasEnded {
                guard start < buffer.count else { return nil }
                let line = buffer[start...]
                start = buffer.count
                return try parse(line)
            }
            guard buffer.count - start <= Self.longestLine else {
                throw .badLine(lineNumber + 1, why: "it is longer than any record")
            }
            try fill()
        }
    }

    private mutating func parse(_ line: ArraySlice<UInt8>) throws(RecordError) -> (key: [UInt8], value: [UInt8]) {
        lineNumber += 1
        do {
            return try RecordText.record(line)
        } catch {
            throw .badLine(lineNumber, why: error.why)
        }
    }

    private mutating func fill() throws(RecordError) {
        if start > 0 {
            buffer.removeFirst(start)
            scanned -= start
            start = 0
        }
        let size = 1 << 20
        let filled = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: size))
        while true {
            let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + filled, size) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .cannotRead(errno: errno) }
            buffer.removeLast(size - count)
            hasEnded = count == 0
            return
        }
    }
}
