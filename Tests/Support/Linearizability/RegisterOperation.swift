/// One operation on one key that holds an integer or nothing, as a client saw it.
public struct RegisterOperation: Sendable, CustomStringConvertible {
    public enum Call: Sendable, Equatable {
        case get
        case set(Int64)
        case setIfAbsent(Int64)
        case setIfPresent(Int64)
        case swap(Int64)
        case increment
        case delete
        case take
    }

    public enum Outcome: Sendable, Equatable {
        case ok
        case number(Int64)
        case value(Int64?)
    }

    public var call: Call
    /// `nil`: no reply came. It has happened once, between `invoked` and `returned`, or never.
    public var outcome: Outcome?
    /// Nanoseconds of one clock that never runs backwards.
    public var invoked: UInt64
    /// As `invoked`, and above it; of an operation without a reply: when it can happen no more.
    public var returned: UInt64

    public init(call: Call, outcome: Outcome?, invoked: UInt64, returned: UInt64) {
        self.call = call
        self.outcome = outcome
        self.invoked = invoked
        self.returned = returned
    }

    /// What the call answers when it runs alone on `state`, and what it leaves.
    public static func run(_ call: Call, on state: Int64?) -> (outcome: Outcome, state: Int64?) {
        switch call {
        case .get: (.value(state), state)
        case .set(let value): (.ok, value)
        case .setIfAbsent(let value): (.number(state == nil ? 1 : 0), state ?? value)
        case .setIfPresent(let value): state == nil ? (.value(nil), nil) : (.ok, value)
        case .swap(let value): (.value(state), value)
        case .increment: (.number((state ?? 0) + 1), (state ?? 0) + 1)
        case .delete: (.number(state == nil ? 0 : 1), nil)
        case .take: (.value(state), nil)
        }
    }

    public var description: String { "\(invoked)…\(returned) \(call) \(outcome.map { "\($0)" } ?? "no reply")" }
}
