import HoldfastEngine
import Logging
import NIOCore

/// The followers that one connection's writes wait for, instead of those of the node's settings: `CLIENT SYNCHRONOUS`. How
/// long they wait, and what becomes of them then, is the node's.
struct SynchronousChoice: Hashable, Sendable {
    var minimumFollowers: Int
    var level: SynchronousSettings.Level

    func applied(to settings: SynchronousSettings) -> SynchronousSettings {
        var own = settings
        own.minimumFollowers = minimumFollowers
        own.level = level
        return own
    }
}

/// The gate of the node's settings, and one for each choice that connections have made: as many as there are choices,
/// however many connections come and go.
///
/// Belongs to the event loop.
final class SynchronousGates {
    let nodes: SynchronousGate
    private var chosen: [SynchronousChoice: SynchronousGate] = [:]
    private let make: () -> SynchronousGate

    var settings: SynchronousSettings {
        didSet {
            nodes.settings = settings
            for (choice, gate) in chosen { gate.settings = choice.applied(to: settings) }
        }
    }

    init(
        _ settings: SynchronousSettings, followers: Followers, loop: any EventLoop, engine: Engine, logger: Logger
    ) {
        make = { SynchronousGate(followers: followers, loop: loop, durable: { engine.durableLSN }, logger: logger) }
        nodes = make()
        self.settings = settings
        nodes.settings = settings
    }

    /// Calls `body` for each gate that some of the writers wait at, with these.
    func each<Writer>(
        of writers: [Writer], _ choice: (Writer) -> SynchronousChoice?, _ body: (SynchronousGate, [Writer]) -> Void
    ) {
        if chosen.isEmpty { return body(nodes, writers) }
        for (choice, some) in Dictionary(grouping: writers, by: choice) { body(gate(choice), some) }
    }

    /// A connection has chosen: from its next write on there is a gate for it.
    func prepare(_ choice: SynchronousChoice) { _ = gate(choice) }

    private func gate(_ choice: SynchronousChoice?) -> SynchronousGate {
        guard let choice else { return nodes }
        if let known = chosen[choice] { return known }
        let gate = make()
        gate.settings = choice.applied(to: settings)
        chosen[choice] = gate
        return gate
    }

    /// A follower has confirmed something, or came.
    func followersMoved() {
        nodes.followersMoved()
        for gate in chosen.values { gate.followersMoved() }
    }
}
