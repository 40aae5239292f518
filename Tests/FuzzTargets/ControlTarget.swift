import HoldfastCore
import HoldfastEngine

/// A slot of the control file: as it is, and with its checksum put right.
package enum ControlTarget: FuzzTarget {
    package static let name = "control"

    package static func seeds() -> [[UInt8]] {
        let token = TimelineToken(rawValue: 5), start = LSN(16 << 20)
        let stopped = ControlData(
            state: .stopped, system: SystemIdentifier(rawValue: 7), timeline: .first, token: token, redo: start,
            redoChain: 9)
        var restoring = ControlData(
            state: .restoring, system: SystemIdentifier(rawValue: 7), timeline: TimelineID(3), token: token,
            redo: start + 4096, redoChain: nil)
        restoring.isArchiving = true
        restoring.ownFrom = .init(timeline: .first, lsn: start)
        restoring.minimumRecoveryPoint = .init(timeline: TimelineID(2), lsn: start + 8192)
        restoring.demand = .init(timeline: TimelineID(2), start: start, stop: start + 4096)
        restoring.command = "holdfast restore --cluster main"
        return [stopped.encoded(sequence: 2), restoring.encoded(sequence: 7)]
    }

    package static func run(_ input: UnsafeRawBufferPointer) {
        // Shorter inputs mutate better: what is missing is zero.
        var bytes = Array(input.prefix(ControlData.slotBytes))
        read(bytes)
        bytes += [UInt8](repeating: 0, count: ControlData.slotBytes - bytes.count)
        Stamp.crc(&bytes, over: 0..<ControlData.slotBytes - 4, at: ControlData.slotBytes - 4)
        read(bytes)
    }

    private static func read(_ bytes: [UInt8]) {
        let data: ControlData, sequence: UInt64
        do throws(ControlFault) {
            (data, sequence) = try ControlData.decode(bytes)
        } catch {
            _ = error.description
            return
        }
        let again = try? ControlData.decode(data.encoded(sequence: sequence))
        expect(again?.data == data && again?.sequence == sequence, "a slot reads as another when it is written again")
    }
}
