import CShims
import HoldfastCore
import HoldfastWAL

extension Engine: DurabilitySource {
    /// Logs and installs a transaction's pages. On a throw nothing has changed but, perhaps, space that was allocated.
    func commit(_ transaction: Transaction, transactions: Int) throws -> StagedCommit {
        let writes = transaction.writes
        guard !writes.isEmpty else { return StagedCommit(end: transaction.basis, transactions: nil) }
        commitLock.lock()
        defer { commitLock.unlock() }
        try checkWriting()
        collect(writes)
        if let verifier { try verifyRedo(of: writes, with: verifier) }
        // Whatever can run out of space does so here: pages first, then the log.
        if let last = writes.pages.max() {
            do throws(DiskError) {
                try cache.store.extend(toCover: PageNumber(last))
            } catch { throw error.isNoSpace ? refused(error) : EngineError.disk(error) }
        }
        let first = TransactionID(lastTransaction.rawValue + 1)
        let last = TransactionID(lastTransaction.rawValue + UInt64(transactions))
        let appended: AppendedRecord
        do throws(WALError) {
            try log.reserve(bytes: builder.bytes)
            appended = try log.append(
                commit: builder, first: first, last: last, time: max(options.now(), lastCommitTime))
        } catch {
            if planted(.installRefusedCommit) {
                cache.install(writes, end: log.appendedLSN)
                writes.forgetInstalled()
            }
            throw refusing(error)
        }
        cache.install(writes, end: appended.end)
        writes.forgetInstalled()
        lastTransaction = last
        lastCommitTime = appended.time
        setInstalled(appended.end)
        if planted(.publishBeforeDurable) { publish(through: appended.end) }
        refusal.withLock { $0 = nil }
        if transaction.leavesPagesToReclaim { background.reclaim() }
        if cache.isCrowded { background.wake() }
        return StagedCommit(end: appended.end, transactions: first...last)
    }

    /// What becomes of each page: the whole image where replay from the last redo point would find no other, or where
    /// the old version was not read; else the difference, or the image where that is the smaller.
    private func collect(_ writes: WriteSet) {
        builder.reset()
        for index in writes.pages.indices {
            bring(index + 3, of: writes)
            let page = PageNumber(writes.pages[index])
            let new = cache.frames.address(writes.slots[index])
            Page(new).zeroHole()
            let base = writes.bases[index]
            let isFirst =
                !planted(.noImages) && !planted(.differenceOnTornPage) && base != 0
                && cache.frames.lsn(base) <= greatestRedo.rawValue
            if writes.created[index] || base == 0 || isFirst {
                builder.addImage(page: page, of: new)
            } else {
                let old = UnsafeRawPointer(cache.frames.address(base)), touched = TouchedCells(new).range
                assert(Page(new).equals(old, outside: touched), "page \(page) was written outside of \(touched)")
                builder.addDifference(page: page, old: old, new: new, touched: touched)
            }
        }
    }

    /// Asks the processor for what is compared of a page soon: headers and slots of both versions, and the cells touched.
    @inline(__always)
    private func bring(_ index: Int, of writes: WriteSet) {
        guard index < writes.pages.count else { return }
        let new = cache.frames.address(writes.slots[index]), old = cache.frames.address(writes.bases[index])
        for line in 0..<8 {
            hf_prefetch(new + line * 64)
            hf_prefetch(old + line * 64)
        }
    }

    /// The engine's error for one of the log's; a refusal for want of space is noted for the status.
    func refusing(_ error: WALError) -> EngineError {
        if case .disk(let disk) = error, disk.isNoSpace { return refused(disk) }
        return EngineError(error)
    }

    func refused(_ error: DiskError) -> EngineError {
        let refusal = EngineError.writesRefused(error)
        self.refusal.withLock { $0 = refusal.description }
        return refusal
    }

    // MARK: The durable mark

    var durableMark: LSN { log.durableMark }

    /// Makes everything appended so far durable, and known to be by a witness that is durable too.
    func raiseMark() throws(EngineError) { try raiseMark(to: log.appendedLSN) }

    func raiseMark(to lsn: LSN) throws(EngineError) {
        if log.durableMark >= lsn { return }
        do throws(WALError) {
            try log.flush(through: lsn)
            commitLock.lock()
            let witness: LSN
            do throws(WALError) {
                witness = try log.appendWitness()
            } catch {
                commitLock.unlock()
                throw error
            }
            commitLock.unlock()
            try log.flush(through: witness)
        } catch { throw refusing(error) }
        publish(through: min(installedLSN, log.durableLSN))
        precondition(log.durableMark >= lsn, "a witness was flushed and the mark \(log.durableMark) is below \(lsn)")
    }

    /// A failed sync of something else than the log: nothing more may be acknowledged.
    func stopForGood(_ error: DiskError) -> EngineError {
        let stopped = EngineError.stopped(error.description)
        if failure.set(error.description) { options.onFatal(stopped) }
        return stopped
    }

    /// Appends a record under the commit lock and makes it durable.
    func appendDurably(_ body: RecordBody) throws(EngineError) -> AppendedRecord {
        do throws(WALError) {
            commitLock.lock()
            let appended: AppendedRecord
            do throws(WALError) {
                appended = try log.append(body)
                lastCommitTime = max(lastCommitTime, appended.time)
            } catch {
                commitLock.unlock()
                throw error
            }
            commitLock.unlock()
            try log.flush(through: appended.end)
            return appended
        } catch { throw refusing(error) }
    }
}
