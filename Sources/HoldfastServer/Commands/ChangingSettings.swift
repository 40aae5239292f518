import Synchronization

/// The settings as `CONFIG SET` left them last. Several connections may change them at once, on threads of their own: each
/// change begins with what the one before it left, and is applied before the next one begins.
///
/// The lock is held while a change is applied; what the event loop goes by follows (`ServerCore.settings`).
final class ChangingSettings: Sendable {
    private let settings: Mutex<RuntimeSettings>

    init(_ settings: RuntimeSettings) { self.settings = Mutex(settings) }

    var current: RuntimeSettings { settings.withLock { $0 } }

    /// Changes nothing when `body` throws.
    func change(_ body: (inout RuntimeSettings) throws -> Void) throws {
        try settings.withLock { settings in
            var changed = settings
            try body(&changed)
            settings = changed
        }
    }
}
