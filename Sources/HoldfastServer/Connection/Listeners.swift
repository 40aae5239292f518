import Glibc
import HoldfastWire
import NIOCore
import NIOPosix

/// Accepts connections on loopback TCP and on the unix socket, and gives each its role.
struct Listeners {
    let core: ServerCore
    let group: MultiThreadedEventLoopGroup

    /// The address to bind for `address`, which must be of this machine only.
    static func loopback(_ address: WireAddress) throws(ServerError) -> SocketAddress {
        guard case .tcp(let host, let port) = address else { throw .notLocal(address.description) }
        let literal = host.lowercased() == "localhost" ? "127.0.0.1" : host
        guard let resolved = try? SocketAddress(ipAddress: literal, port: Int(port)) else {
            throw .notLocal(address.description)
        }
        let isLoopback =
            switch resolved {
            // 127.0.0.0/8, in network order.
            case .v4(let v4): UInt32(bigEndian: v4.address.sin_addr.s_addr) >> 24 == 127
            case .v6(let v6):
                withUnsafeBytes(of: v6.address.sin6_addr) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
            case .unixDomainSocket: false
            }
        guard isLoopback else { throw .notLocal(address.description) }
        return resolved
    }

    func listen(on address: SocketAddress, named name: String) async throws -> any Channel {
        let core = core
        do {
            return try await bootstrap { channel in
                Self.accept(channel, core, role: .anonymous, peer: channel.remoteAddress?.description ?? "")
            }
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .bind(to: address).get()
        } catch let error as IOError {
            throw ServerError.cannotListen(name, error.errnoCode)
        }
    }

    func listen(atSocket path: String, mode: UInt32) async throws -> any Channel {
        let core = core
        let descriptor = try SocketFile.listen(at: path, mode: mode)
        return try await bootstrap { channel in
            Self.peer(of: channel).flatMap { credentials in
                // Only the server's own user, and root, who could become it anyway.
                let isOwner = credentials.user == geteuid() || credentials.user == 0
                return Self.accept(
                    channel, core, role: isOwner ? .administrator : .anonymous,
                    peer: "unix:pid=\(credentials.process),uid=\(credentials.user)")
            }
        }
        .withBoundSocket(descriptor).get()
    }

    private func bootstrap(
        _ accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ServerBootstrap {
        ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 512)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelOption(
                .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 16384, maximum: 1 << 18)
            )
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 256 << 10, high: 1 << 20))
            .childChannelInitializer(accept)
    }

    private static func accept(
        _ channel: any Channel, _ core: ServerCore, role: ConnectionRole, peer: String
    ) -> EventLoopFuture<Void> {
        guard core.mayAccept(role) else {
            core.statistics.refusedConnections += 1
            return channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Refusal())
            }
        }
        return channel.eventLoop.makeCompletedFuture {
            let connection = ClientConnection(core: core, id: core.nextConnectionID(), role: role, peer: peer)
            try channel.pipeline.syncOperations.addHandler(connection)
        }
    }

    /// Says that there are too many connections, and closes.
    private final class Refusal: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelActive(context: ChannelHandlerContext) {
            var text = context.channel.allocator.buffer(capacity: 64)
            text.writeString("-ERR max number of clients reached\r\n")
            let channel = context.channel
            context.writeAndFlush(wrapOutboundOut(text)).whenComplete { _ in channel.close(promise: nil) }
        }
    }

    /// `struct ucred`.
    private struct Credentials: Sendable {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
    }

    private static func peer(of channel: any Channel) -> EventLoopFuture<Credentials> {
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
        }
        return provider.unsafeGetSocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
    }
}
