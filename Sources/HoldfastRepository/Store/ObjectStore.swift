import HoldfastCore

/// Where a repository's objects are: a directory, or later a bucket. Every call blocks its thread.
///
/// An object appears whole or not at all, is durable when the call that made it returns, and is never changed
/// afterwards. Creation is always exclusive: of two that create one name, exactly one gets `.created`.
package protocol ObjectStore: AnyObject, Sendable {
    /// Where this is, for messages: the root directory, or the bucket's address.
    var place: String { get }

    /// Creates a small object with these bytes unless it exists; compares when it does. Whatever is returned,
    /// the object named is durable: "exists and equal" is success in a retry after a crash.
    func create(_ path: ObjectPath, _ bytes: [UInt8]) throws(StoreError) -> Creation

    /// Begins an object of any size, which appears at `finish()`.
    func put(_ path: ObjectPath) throws(StoreError) -> any ObjectWriter

    /// Opens an object for reads at any offset; throws `.missing` when it is not there.
    func open(_ path: ObjectPath) throws(StoreError) -> any StoredObject

    /// The whole of a small object; `nil` when it is not there; throws `.tooLarge` above `limit` bytes.
    func read(_ path: ObjectPath, limit: Int) throws(StoreError) -> [UInt8]?

    /// The objects directly in a directory, sorted by name; temporaries are not listed. An absent directory is empty.
    func list(_ directory: ObjectPath) throws(StoreError) -> [ObjectListing]

    /// The names of the directories directly in `directory` (`nil`: in the root), sorted.
    func listDirectories(_ directory: ObjectPath?) throws(StoreError) -> [String]

    /// Bytes and time of an object; `nil` when it is not there.
    func describe(_ path: ObjectPath) throws(StoreError) -> ObjectListing?

    /// `describe`, and what it found is durable: its creator may have crashed before that was certain.
    func confirm(_ path: ObjectPath) throws(StoreError) -> ObjectListing?

    /// Removes an object; one that is not there is removed already. Durable when it returns.
    func delete(_ path: ObjectPath) throws(StoreError)

    /// The time as the store's clock has it, by which `ObjectListing.modified` is judged.
    func now() throws(StoreError) -> Timestamp

    /// Removes what unfinished creations left in a directory and below, if it is older than `olderThanSeconds`
    /// by the store's clock. Returns how many.
    @discardableResult
    func sweepTemporaries(in directory: ObjectPath, olderThanSeconds: Int64) throws(StoreError) -> Int
}

/// What came of an exclusive creation.
package enum Creation: Equatable, Sendable {
    /// It was not there and is now.
    case created
    /// It was there with the same bytes.
    case equal
    /// It was there with other bytes, which stay. (Of a streamed object: it was there; bytes are not compared.)
    case different
}

/// An object as a listing shows it.
package struct ObjectListing: Equatable, Sendable {
    package var path: ObjectPath
    package var bytes: UInt64
    /// By the store's clock.
    package var modified: Timestamp

    package init(path: ObjectPath, bytes: UInt64, modified: Timestamp) {
        self.path = path
        self.bytes = bytes
        self.modified = modified
    }

    package var name: String { path.name }
}

/// An object being written. It may be handed from thread to thread, but is used by one at a time; it ends with
/// `finish` or `abandon`, and abandons itself when dropped.
package protocol ObjectWriter: AnyObject, Sendable {
    var path: ObjectPath { get }
    /// Bytes written so far.
    var bytes: UInt64 { get }
    func write(_ buffer: UnsafeRawBufferPointer) throws(StoreError)
    /// Makes the object appear, durably. `.different` when the name was taken meanwhile: nothing was replaced.
    func finish() throws(StoreError) -> Creation
    /// Removes what was written. After `finish` it does nothing.
    func abandon()
}

/// An open object. Reads at any offsets may run side by side.
package protocol StoredObject: AnyObject, Sendable {
    var path: ObjectPath { get }
    var bytes: UInt64 { get }
    /// Reads until the buffer is full or the object ends; returns the count.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StoreError) -> Int
    func close()
}

extension ObjectWriter {
    package func write(_ bytes: [UInt8]) throws(StoreError) {
        let result: Result<Void, StoreError> = bytes.withUnsafeBytes { buffer in
            do throws(StoreError) { return .success(try write(buffer)) } catch { return .failure(error) }
        }
        try result.get()
    }
}

extension StoredObject {
    /// Exactly `count` bytes; throws `.cutShort` where the object ends before.
    package func readBytes(count: Int, at offset: UInt64) throws(StoreError) -> [UInt8] {
        guard offset <= bytes, UInt64(count) <= bytes - offset else {
            throw StoreError("read", path.text, .cutShort(bytes: bytes))
        }
        var failure: StoreError?
        let read = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            do throws(StoreError) {
                initialized = try self.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        guard read.count == count else { throw StoreError("read", path.text, .cutShort(bytes: bytes)) }
        return read
    }
}
