import HoldfastCore

/// How tree code reads pages: a snapshot or a transaction. Generic, never an existential.
package protocol PageReader {
    /// The version of page `n` that this reader sees. 8,192 bytes, valid until the reader's
    /// current operation (one get, one put, one step of a cursor) ends.
    func page(_ n: PageNumber) throws(EngineError) -> UnsafeRawPointer

    /// Page `n` will be read next: brings its first bytes into the processor's cache if it is resident.
    func willRead(_ n: PageNumber)

    /// In the middle of a long operation: no pointer that `page` gave is used any more, so that its memory may be.
    func releasePages()
}

extension PageReader {
    @inline(__always) package func willRead(_ n: PageNumber) {}
    @inline(__always) package func releasePages() {}
}

/// How tree code changes pages: inside the one write transaction.
package protocol PageEditor: AnyObject, PageReader {
    /// The transaction's private copy of page `n`, made at the first call. The pointer stays valid
    /// until the transaction ends, and `page(n)` gives the same bytes from then on.
    func modify(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer

    /// A private page of zeros for `n`, which the allocator has just handed out: the old content is not
    /// read, so that it is logged as a full-page image.
    func create(_ n: PageNumber) throws(EngineError) -> UnsafeMutableRawPointer
}
