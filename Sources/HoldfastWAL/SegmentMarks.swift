import HoldfastCore

extension Disk {
    /// Removes the marks of a segment that is about to go, or to get another name: a mark that a crash leaves without its
    /// segment would stop the archiver. So one that asks for archiving is gone durably when this returns, while the
    /// segment is still there.
    ///
    /// An archiver that runs beside this renames the first mark to the second at any time.
    package func removeMarks(of name: SegmentName) throws(DiskError) {
        let asksForArchiving = try exists(name.readyPath)
        if asksForArchiving { try removeIfThere(name.readyPath) }
        if try exists(name.donePath) { try removeIfThere(name.donePath) }
        if asksForArchiving { try syncDirectory(directoryPart(name.readyPath)) }
    }
}
