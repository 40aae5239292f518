import Testing

/// All tests that start a server, one after the other: each has threads of its own, and the machine may be small.
@Suite("The server", .serialized)
struct ServerTests {}
