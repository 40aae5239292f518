/// What one frame of the wire may measure. Everything beyond is refused before memory is taken for it:
/// a length that a peer only announces never makes this side allocate.
package struct WireLimits: Sendable {
    /// Bytes of one bulk string.
    package var bulkBytes = 64 << 20
    /// Elements of one request.
    package var arguments = 1 << 20
    /// Bytes of one whole request or reply.
    package var frameBytes = 256 << 20
    /// Bytes of a line that ends with CRLF: inline commands, counts, simple strings.
    package var lineBytes = 64 << 10
    /// How deep replies may nest.
    package var depth = 32

    package init() {}

    /// For a client: replies may be larger than requests.
    package static var replies: WireLimits {
        var limits = WireLimits()
        limits.frameBytes = 1 << 30
        limits.bulkBytes = 512 << 20
        limits.arguments = 1 << 26
        return limits
    }
}

/// The two versions of RESP.
package enum WireVersion: Int, Sendable {
    case resp2 = 2
    case resp3 = 3
}
