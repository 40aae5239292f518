import ServiceLifecycle

/// Waits inside a service.
enum Pause {
    /// Returns when the service is to stop.
    static func untilShutdown() async { while await milliseconds(3_600_000) {} }

    /// `false`: the service is to stop.
    static func milliseconds(_ count: Int) async -> Bool {
        if Task.isShuttingDownGracefully || Task.isCancelled { return false }
        do {
            return try await cancelWhenGracefulShutdown {
                try await Task.sleep(for: .milliseconds(count))
                return true
            }
        } catch {
            return false
        }
    }
}

/// A service that logs show by its name alone: its members are configuration, which may hold secrets.
protocol NamedService: Service, CustomStringConvertible {}

extension NamedService {
    var description: String { "\(Self.self)" }
}
