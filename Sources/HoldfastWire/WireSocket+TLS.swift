/// Reading and writing through TLS.
extension WireSocket {
    func shakeHands(_ tls: WireTLS, _ deadline: Deadline, _ address: WireAddress) throws(WireError) {
        while true {
            let progress: WireTLS.Progress
            do throws(WireError) {
                progress = try tls.handshake()
            } catch {
                // The alert that tells the server why.
                _ = try? sendOutgoing(tls, address)
                throw error
            }
            let isSent = try sendOutgoing(tls, address)
            switch progress {
            case .done where isSent: return
            case .ended: throw .disconnected(address, 0)
            case .done, .needMore: break
            }
            let ready = try wait(writing: !isSent, deadline, address)
            guard ready.readable, case .needMore = progress else { continue }
            guard try receive(tls, address) != 0 else {
                throw .tlsFailed(address, "the server closed the connection in the handshake")
            }
        }
    }

    /// How many bytes came, decrypted; 0 at the end, -1 when none are whole yet.
    func read(_ tls: WireTLS, _ buffer: inout InputBuffer, _ address: WireAddress) throws(WireError) -> Int {
        let count = try receive(tls, address)
        // An end that TLS did not announce is one all the same: RESP says itself when a reply is whole.
        guard count != 0 else { return 0 }
        let (bytes, progress) = try tls.decrypt(into: &buffer)
        if bytes > 0 { return bytes }
        if case .ended = progress { return 0 }
        return -1
    }

    /// How many bytes went. What has been encrypted counts only when its cipher text has been handed to the system: until
    /// then the caller comes again with the same bytes.
    func write(_ tls: WireTLS, _ bytes: UnsafeRawBufferPointer, _ address: WireAddress) throws(WireError) -> Int {
        if encrypted == 0 {
            let piece = UnsafeRawBufferPointer(rebasing: bytes.prefix(256 << 10))
            encrypted = try tls.encrypt(piece)
        }
        guard try sendOutgoing(tls, address) else { return 0 }
        defer { encrypted = 0 }
        return encrypted
    }

    /// false: the socket took not all.
    private func sendOutgoing(_ tls: WireTLS, _ address: WireAddress) throws(WireError) -> Bool {
        while true {
            let outgoing = tls.outgoing
            if outgoing.isEmpty { return true }
            let count = try send(outgoing, address)
            if count == 0 { return false }
            tls.sent(count)
        }
    }

    /// How many bytes of cipher text came; 0 at the end.
    private func receive(_ tls: WireTLS, _ address: WireAddress) throws(WireError) -> Int {
        try withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { memory throws(WireError) in
            let count = try receive(into: memory, address)
            if count > 0 { tls.received(UnsafeRawBufferPointer(rebasing: memory[..<count])) }
            return count
        }
    }
}
