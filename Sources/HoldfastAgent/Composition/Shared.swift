import Synchronization

/// A value that several threads change in turn, for closures that outlive the scope they were made in.
final class Shared<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    init(_ value: Value) { self.value = Mutex(value) }

    func withLock<R: Sendable>(_ body: (inout sending Value) -> R) -> R { value.withLock { body(&$0) } }

    var current: Value {
        get { value.withLock { $0 } }
        set { value.withLock { $0 = newValue } }
    }
}
