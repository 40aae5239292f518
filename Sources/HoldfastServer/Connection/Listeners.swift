import Glibc
import HoldfastWire
import NIOCore
import NIOPosix
import NIOSSL

/// Accepts connections on TCP, with TLS or without, and on the unix socket, and gives each its first role.
struct Listeners {
    let core: ServerCore
    let group: MultiThreadedEventLoopGroup

    /// The address to bind for `address`, and whether only this machine reaches it.
    static func resolve(_ address: WireAddress) throws(ServerError) -> (address: SocketAddress, isLoopback: Bool) {
        guard case .tcp(let host, let port) = address else { throw .notAnAddress(address.description) }
        let literal = host.lowercased() == "localhost" ? "127.0.0.1" : host
        guard let resolved = try? SocketAddress(ipAddress: literal, port: Int(port)) else {
            throw .notAnAddress(address.description)
        }
        let isLoopback =
            switch resolved {
            // 127.0.0.0/8, in network order.
            case .v4(let v4): UInt32(bigEndian: v4.address.sin_addr.s_addr) >> 24 == 127
            case .v6(let v6):
                withUnsafeBytes(of: v6.address.sin6_addr) { $0.dropLast().allSatisfy { $0 == 0 } && $0.last == 1 }
            case .unixDomainSocket: false
            }
        return (resolved, isLoopback)
    }

    /// What connections of one peer have in common: its address, or of IPv6 the network that one customer has.
    private static func key(_ address: SocketAddress?) -> String {
        guard case .v6(let v6)? = address else { return address?.ipAddress ?? "" }
        return withUnsafeBytes(of: v6.address.sin6_addr) { bytes in
            // An IPv4 address in IPv6 clothes.
            let isMapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
            return (isMapped ? bytes[12...] : bytes[..<8]).map(String.init).joined(separator: ".")
        }
    }

    func listen(on address: SocketAddress, named name: String) async throws -> any Channel {
        let core = core
        do {
            return try await bootstrap { channel in
                Self.accept(tcp: channel, core)
            }
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            // A peer whose machine is gone says nothing, and would keep its place for ever.
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPIDLE)), value: 120)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPINTVL)), value: 30)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPCNT)), value: 4)
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
                    unix: channel, core, isOwner: isOwner,
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

    private static func accept(tcp channel: any Channel, _ core: ServerCore) -> EventLoopFuture<Void> {
        let (role, tls, key) = (core.access.tcpRole, core.access.tls, key(channel.remoteAddress))
        let stands = tls != nil || role == .nobody
        guard core.mayAccept(isOwner: false), !stands || core.logins.enter(key) else {
            core.statistics.refusedConnections += 1
            // Plain text would be no answer to who speaks TLS.
            return tls == nil ? refuse(channel) : channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
        }
        do {
            let connection = ClientConnection(
                core: core, id: core.nextConnectionID(), role: role, peer: channel.remoteAddress?.description ?? "",
                address: key, isHandshaking: tls != nil)
            if let tls {
                // With TLS the end is said, and not merely happens: an end of input without it is the end of all.
                try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: false)
                try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls.context))
            }
            try channel.pipeline.syncOperations.addHandler(connection)
            return channel.eventLoop.makeSucceededVoidFuture()
        } catch {
            if stands { core.logins.leave(key) }
            return channel.eventLoop.makeFailedFuture(error)
        }
    }

    private static func accept(
        unix channel: any Channel, _ core: ServerCore, isOwner: Bool, peer: String
    ) -> EventLoopFuture<Void> {
        let role = isOwner ? .admin : core.access.socketRole
        guard core.mayAccept(isOwner: isOwner), role != .nobody || core.logins.enter(ClientConnection.localAddress)
        else {
            core.statistics.refusedConnections += 1
            return refuse(channel)
        }
        return channel.eventLoop.makeCompletedFuture {
            let connection = ClientConnection(
                core: core, id: core.nextConnectionID(), role: role, peer: peer)
            try channel.pipeline.syncOperations.addHandler(connection)
        }
    }

    private static func refuse(_ channel: any Channel) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Refusal()) }
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
