import Glibc

/// The commands that the server knows.
enum Command: UInt8, CaseIterable {
    // Reads of records.
    case get, mget, exists, strlen, getrange, type, dbsize, randomkey, scan, keys, range
    // Writes of records.
    case set, setnx, mset, del, unlink, append, incr, decr, incrby, decrby, getset, getdel, flushdb
    // Transactions.
    case multi, exec, discard, watch, unwatch
    // The connection.
    case ping, echo, select, hello, auth, client, quit, reset, command
    // The server.
    case config, info, role, wait, waitlsn, lastsave, shutdown, status
    // Physical.
    case backup, checkpoint, wal, restorepoint, promote, check, slot, replicate, digest
}

/// Where a command runs and what it needs.
enum CommandKind {
    /// Reads records; on the event loop where the cache answers.
    case read
    /// Reads many records; on the pool for blocking work.
    case scan
    /// Changes records, or must be ordered with those that do: in the writer's transaction.
    case write
    /// Touches the connection and nothing else, or lets it wait; on the event loop.
    case connection
    /// Asks or tells the engine as a whole; on the pool for blocking work.
    case server
    /// For those with a role, may take long; on the pool of the physical commands.
    case physical

    /// Who may run a command that does not say otherwise.
    var roles: Roles {
        switch self {
        case .read, .scan: .reading
        case .write: .writing
        case .connection, .server: .known
        case .physical: .admin
        }
    }
}

/// What is known of a command before it runs.
struct CommandSpecification: Sendable {
    var command: Command
    /// In lower case, as error texts show it.
    var name: String
    /// Arguments with the name; negative: at least so many. As in Redis.
    var arity: Int
    var kind: CommandKind
    /// Places of the keys: first, last (negative: from the end), step; zeros: none.
    var keys = (first: 0, last: 0, step: 0)
    /// Who may run it; `CommandTable.restricted` has the subcommands that fewer may run.
    var roles = Roles.admin
    /// May stand between `MULTI` and `EXEC`.
    var isQueueable: Bool {
        switch kind {
        case .read, .scan, .write: true
        case .connection: command == .ping || command == .echo || command == .select || command == .unwatch
        case .server, .physical: false
        }
    }
    /// Whether it may have so many arguments, its name included.
    func accepts(_ count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }
    var isWrite: Bool { kind == .write && command != .watch }
    /// What `COMMAND` says about it.
    var flags: [String] {
        switch kind {
        case .read: ["readonly", "fast"]
        case .scan: ["readonly"]
        case .write: isWrite ? ["write", "denyoom"] : ["noscript", "fast"]
        case .connection: ["noscript", "fast"]
        case .server: ["noscript"]
        case .physical: ["admin", "noscript"]
        }
    }
}

/// Finds commands by name, without regard to case and without allocation.
struct CommandTable: Sendable {
    /// Names of up to 16 bytes, in capitals, as two words.
    private struct Name: Hashable {
        var high: UInt64
        var low: UInt64
    }

    let all: [CommandSpecification]
    /// Open addressing, 256 places: name and index + 1 into `all`.
    private let places: [(name: Name, index: UInt8)]

    static let shared = CommandTable()

    func find(_ name: UnsafeRawBufferPointer) -> CommandSpecification? {
        guard name.count > 0, name.count <= 16 else { return nil }
        let packed = Self.pack(name)
        var place = Self.hash(packed)
        while true {
            let entry = places[place]
            if entry.index == 0 { return nil }
            if entry.name == packed { return all[Int(entry.index) - 1] }
            place = (place + 1) & 255
        }
    }

    private static func pack(_ name: UnsafeRawBufferPointer) -> Name {
        var high: UInt64 = 0
        var low: UInt64 = 0
        for (index, byte) in name.enumerated() {
            let capital = UInt64((0x61...0x7A).contains(byte) ? byte & 0xDF : byte)
            if index < 8 { high = high << 8 | capital } else { low = low << 8 | capital }
        }
        return Name(high: high, low: low)
    }

    private static func hash(_ name: Name) -> Int {
        Int(truncatingIfNeeded: ((name.high ^ name.low &* 31) &* 0x9E37_79B9_7F4A_7C15) >> 56)
    }

    private init() {
        var all: [CommandSpecification] = []
        func add(
            _ command: Command, _ arity: Int, _ kind: CommandKind, keys: (Int, Int, Int) = (0, 0, 0),
            roles: Roles? = nil
        ) {
            all.append(
                CommandSpecification(
                    command: command, name: "\(command)", arity: arity, kind: kind,
                    keys: (first: keys.0, last: keys.1, step: keys.2), roles: roles ?? kind.roles))
        }
        add(.get, 2, .read, keys: (1, 1, 1))
        add(.mget, -2, .read, keys: (1, -1, 1))
        add(.exists, -2, .read, keys: (1, -1, 1))
        add(.strlen, 2, .read, keys: (1, 1, 1))
        add(.getrange, 4, .read, keys: (1, 1, 1))
        add(.type, 2, .read, keys: (1, 1, 1))
        add(.dbsize, 1, .read)
        add(.randomkey, 1, .scan)
        add(.scan, -2, .scan)
        add(.keys, 2, .scan)
        add(.range, -3, .scan)
        add(.set, -3, .write, keys: (1, 1, 1))
        add(.setnx, 3, .write, keys: (1, 1, 1))
        add(.mset, -3, .write, keys: (1, -1, 2))
        add(.del, -2, .write, keys: (1, -1, 1))
        add(.unlink, -2, .write, keys: (1, -1, 1))
        add(.append, 3, .write, keys: (1, 1, 1))
        add(.incr, 2, .write, keys: (1, 1, 1))
        add(.decr, 2, .write, keys: (1, 1, 1))
        add(.incrby, 3, .write, keys: (1, 1, 1))
        add(.decrby, 3, .write, keys: (1, 1, 1))
        add(.getset, 3, .write, keys: (1, 1, 1))
        add(.getdel, 2, .write, keys: (1, 1, 1))
        add(.flushdb, -1, .write)
        add(.multi, 1, .connection)
        add(.exec, 1, .connection)
        add(.discard, 1, .connection)
        add(.watch, -2, .write, keys: (1, -1, 1), roles: .reading)
        add(.unwatch, 1, .connection)
        add(.ping, -1, .connection)
        add(.echo, 2, .connection)
        add(.select, 2, .connection)
        add(.hello, -1, .connection, roles: .everybody)
        add(.auth, -2, .connection, roles: .everybody)
        add(.client, -2, .connection)
        add(.quit, -1, .connection, roles: .everybody)
        add(.reset, 1, .connection, roles: .everybody)
        add(.command, -1, .connection)
        add(.config, -2, .server)
        add(.info, -1, .server)
        add(.role, 1, .server)
        add(.wait, 3, .connection)
        add(.waitlsn, 3, .connection)
        add(.lastsave, 1, .server)
        add(.shutdown, -1, .server, roles: .admin)
        add(.status, 1, .server, roles: .operating)
        add(.backup, -2, .physical, roles: .backing)
        add(.checkpoint, 1, .physical)
        add(.wal, -2, .physical, roles: .backing)
        add(.restorepoint, 2, .physical, roles: .backing)
        add(.promote, -1, .physical)
        add(.check, 1, .physical)
        add(.slot, -2, .physical, roles: .following)
        add(.replicate, -4, .physical, roles: .following)
        add(.digest, -1, .physical, roles: .following)
        precondition(all.count == Command.allCases.count && all.count < 128)
        precondition(all.allSatisfy { $0.roles.contains(.admin) }, "admin may run everything")
        var places = [(name: Name, index: UInt8)](repeating: (Name(high: 0, low: 0), 0), count: 256)
        for (index, specification) in all.enumerated() {
            let name = Array(specification.name.utf8).withUnsafeBytes { Self.pack($0) }
            var place = Self.hash(name)
            while places[place].index != 0 { place = (place + 1) & 255 }
            places[place] = (name, UInt8(index + 1))
        }
        self.all = all
        self.places = places
    }

    /// Commands of Redis that are understood by name and not there.
    static let unsupported: Set<String> = Set(
        """
        acl asking bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush \
        bzmpop bzpopmax bzpopmin cluster copy debug decrbyfloat dump eval eval_ro evalsha evalsha_ro expire expireat \
        expiretime failover fcall fcall_ro flushall function geoadd geodist geohash geopos georadius georadius_ro \
        georadiusbymember georadiusbymember_ro geosearch geosearchstore getbit getex hdel hexists hget hgetall hincrby \
        hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incrbyfloat latency lcs lindex \
        linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory migrate module monitor \
        move msetnx object persist pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest psetex \
        psubscribe psync pttl publish pubsub punsubscribe readonly readwrite rename renamenx replconf replicaof \
        restore rpop rpoplpush rpush rpushx sadd save scard script sdiff sdiffstore setbit setex setrange sinter \
        sintercard sinterstore sismember slaveof slowlog smembers smismember smove sort sort_ro spop spublish \
        srandmember srem sscan ssubscribe subscribe substr sunion sunionstore sunsubscribe swapdb sync time touch ttl \
        unsubscribe xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange \
        xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore \
        zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex \
        zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion \
        zunionstore
        """.split(separator: " ").map(String.init))
}
