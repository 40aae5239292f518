import HoldfastCore
import HoldfastEngine
import HoldfastWire

/// Turns errors into error replies: Redis' codes where it has one for the case, so that clients know what to do.
enum ErrorReplies {
    static func text(_ error: any Error) -> String {
        switch error {
        case let error as ReplyTooLong:
            return "ERR the reply would be longer than \(error.limit) bytes: ask for less at once"
        case let error as EngineError: return EngineAdapter.reply(to: error)
        case let error as DiskError where error.isNoSpace: return noSpace(error.diagnosis)
        case let error as any DiagnosableError: return ErrorCode.reply(error.diagnosis)
        default: return "INTERNAL \(error)"
        }
    }

    /// Why no transaction can be begun.
    static func refusal(_ error: any Error) -> String {
        let reply = text(error)
        guard let error = error as? any DiagnosableError, !reply.hasPrefix("MISCONF ") else { return reply }
        return "READONLY " + error.diagnosis.description.replacing("\n", with: "; ")
    }

    /// What was asked for may have happened.
    static func unknown(_ error: EngineError) -> String {
        "UNKNOWN " + error.diagnosis.description.replacing("\n", with: "; ")
    }

    static func noSpace(_ diagnosis: Diagnosis) -> String {
        "MISCONF there is no space for the write-ahead log: writes are refused until there is, reads go on; "
            + diagnosis.description.replacing("\n", with: "; ")
    }
}
