// swift-tools-version: 6.2
import PackageDescription

/// Ground floor first: a target imports only targets that stand above it in this list.
/// System packages (Debian): libpq-dev libssl-dev zlib1g-dev libzstd-dev, and libisal-dev on x86-64.

#if arch(x86_64)
    let isal: [Target.Dependency] = ["CIsal"]
    let isalTarget: [Target] = [.systemLibrary(name: "CIsal", pkgConfig: "libisal")]
#else
    let isal: [Target.Dependency] = []
    let isalTarget: [Target] = []
#endif

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "NIOTLS", package: "swift-nio"),
]
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let collections = Target.Dependency.product(name: "Collections", package: "swift-collections")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

func tests(_ target: String, _ more: [Target.Dependency] = []) -> Target {
    .testTarget(name: target + "Tests", dependencies: [.init(stringLiteral: target), "HoldfastTestSupport"] + more)
}

func benchmark(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: "bench-" + name, dependencies: dependencies, path: "Benchmarks/" + name)
}

let package = Package(
    name: "holdfast",
    products: [
        .library(name: "HoldfastEngine", targets: ["HoldfastEngine"]),
        .executable(name: "holdfast", targets: ["holdfast"]),
    ],
    traits: [
        .trait(name: "LMDB", description: "Benchmarks measure LMDB beside the engine: needs liblmdb-dev."),
        .trait(name: "RocksDB", description: "Benchmarks measure RocksDB beside the engine: needs librocksdb-dev."),
        .trait(name: "Fuzzing", description: "bench-fuzz is linked with libFuzzer: deploy/fuzz builds it so."),
        .trait(
            name: "PlantedFaults",
            description: "For holdfast-crash: faults that can be planted in the engine, and small segments."),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.24.0"),
    ],
    targets: isalTarget + [
        .target(name: "CShims"),
        .systemLibrary(name: "CLibpq", pkgConfig: "libpq"),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl"),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib"),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd"),
        .target(name: "HoldfastCore", dependencies: ["CShims"]),
        .target(name: "HoldfastWire", dependencies: ["HoldfastCore", "CShims", "COpenSSL"]),
        .target(name: "HoldfastWAL", dependencies: ["HoldfastCore", "CShims"]),
        .target(name: "HoldfastEngine", dependencies: ["HoldfastCore", "HoldfastWAL", "CShims"]),
        .target(
            name: "HoldfastArchive", dependencies: ["HoldfastCore", "CShims", "CZlib", "CZstd", crypto] + isal),
        .target(name: "HoldfastRepository", dependencies: ["HoldfastCore", "HoldfastArchive", "CShims", crypto]),
        .target(
            name: "HoldfastBackup",
            dependencies: ["HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastArchive", "HoldfastRepository"]),
        .target(
            name: "HoldfastRestore",
            dependencies: [
                "HoldfastCore", "HoldfastWAL", "HoldfastEngine", "HoldfastArchive", "HoldfastRepository", "CShims",
            ]),
        .target(
            name: "HoldfastSQL", path: "sql",
            resources: [
                .embedInCode("m001_schema.sql"), .embedInCode("m002_views.sql"), .embedInCode("prepare.sql"),
                .embedInCode("grants.sql"),
                .embedInCode("statements.sql"),
            ]),
        .target(name: "HoldfastCatalog", dependencies: ["HoldfastCore", "HoldfastSQL", "CLibpq", log]),
        .target(
            name: "HoldfastServer",
            dependencies: [
                "HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastEngine", "CShims", log, metrics, lifecycle,
                collections, crypto, cryptoExtras, nioSSL,
            ] + nio),
        .target(
            name: "HoldfastReplica",
            dependencies: ["HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastEngine", "HoldfastRepository"]),
        .target(
            name: "HoldfastFailover",
            dependencies: [
                "HoldfastCore", log, .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"), nioSSL,
            ]),
        .target(
            name: "HoldfastAgent",
            dependencies: [
                "HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastEngine", "HoldfastArchive",
                "HoldfastRepository", "HoldfastBackup", "HoldfastRestore", "HoldfastCatalog", "HoldfastServer",
                "HoldfastReplica", "HoldfastFailover", log, metrics, lifecycle, .product(name: "Yams", package: "Yams"),
            ]),
        .executableTarget(name: "holdfast", dependencies: ["HoldfastAgent", "HoldfastServer", arguments]),

        .target(name: "ThreadSanitizerMutex", path: "Tests/ThreadSanitizer"),
        .target(
            name: "HoldfastTestSupport", dependencies: ["HoldfastCore", "ThreadSanitizerMutex"], path: "Tests/Support"),
        .target(
            name: "HoldfastRepositoryTestSupport", dependencies: ["HoldfastCore", "HoldfastRepository"],
            path: "Tests/RepositorySupport"),
        .target(
            name: "HoldfastStress", dependencies: ["HoldfastCore", "HoldfastEngine", "HoldfastTestSupport"],
            path: "Tests/Stress"),
        .target(
            name: "HostHarness", dependencies: ["HoldfastTestSupport"], path: "Tests/HostHarness"),
        .target(
            name: "HoldfastFailoverSoak",
            dependencies: ["HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastTestSupport", "HostHarness"],
            path: "Tests/FailoverSoak"),
        .target(
            name: "HoldfastCrashSimulator",
            dependencies: ["HoldfastCore", "HoldfastWAL", "HoldfastEngine", "HoldfastTestSupport", "CShims"],
            path: "Tests/CrashSimulator"),
        tests("HoldfastCrashSimulator"),
        tests("HoldfastCore", ["CShims"]),
        tests("HoldfastWire"),
        tests("HoldfastWAL", ["CShims"]),
        tests("HoldfastEngine", ["HoldfastWAL", "HoldfastStress", "CShims"]),
        tests("HoldfastArchive", ["CShims"]),
        tests("HoldfastRepository", ["HoldfastArchive", "HoldfastRepositoryTestSupport"]),
        tests(
            "HoldfastBackup",
            ["HoldfastRepository", "HoldfastArchive", "HoldfastWAL", "HoldfastRepositoryTestSupport"]),
        tests(
            "HoldfastRestore",
            [
                "HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastEngine", "HoldfastArchive",
                "HoldfastRepository", "HoldfastBackup", "HoldfastServer", "HoldfastReplica",
                "HoldfastRepositoryTestSupport", log,
            ]),
        tests("HoldfastCatalog", ["HoldfastSQL", log]),
        tests("HoldfastServer", ["HoldfastEngine", "HoldfastWAL", "HoldfastWire"] + nio),
        tests("HoldfastFailover", ["HoldfastCore"]),
        tests("HoldfastReplica", ["HoldfastCore", "HoldfastEngine", "HoldfastWAL", "HoldfastWire"]),
        tests("HoldfastAgent", ["HoldfastServer"]),
        .target(
            name: "FuzzTargets",
            dependencies: [
                "HoldfastCore", "HoldfastWire", "HoldfastWAL", "HoldfastEngine", "HoldfastArchive",
                "HoldfastRepository", "CShims", crypto,
            ], path: "Tests/FuzzTargets"),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets", "HoldfastTestSupport"]),
        .testTarget(
            name: "HoldfastProcessTests",
            dependencies: ["holdfast", "HoldfastCore", "HoldfastTestSupport", "HostHarness", "HoldfastFailoverSoak"]),

        .executableTarget(
            name: "holdfast-stress", dependencies: ["HoldfastStress", "HoldfastTestSupport"], path: "Benchmarks/stress"),
        .target(name: "BenchmarkSupport", dependencies: ["HoldfastTestSupport"], path: "Benchmarks/Support"),
        .systemLibrary(name: "CLMDB", path: "Benchmarks/CLMDB"),
        .systemLibrary(name: "CRocksDB", path: "Benchmarks/CRocksDB"),
        benchmark(
            "engine",
            [
                "BenchmarkSupport", "HoldfastTestSupport", "HoldfastCore", "HoldfastEngine", arguments,
                .target(name: "CLMDB", condition: .when(traits: ["LMDB"])),
                .target(name: "CRocksDB", condition: .when(traits: ["RocksDB"])),
            ]),
        .executableTarget(
            name: "holdfast-crash", dependencies: ["HoldfastCrashSimulator", "HoldfastCore", arguments],
            path: "Benchmarks/crash"),
        .executableTarget(
            name: "holdfast-failover",
            dependencies: ["holdfast", "HoldfastFailoverSoak", "HostHarness", "HoldfastTestSupport", arguments],
            path: "Benchmarks/failover"),
        benchmark("server", ["BenchmarkSupport", "HoldfastTestSupport"]),
        benchmark("backup", ["BenchmarkSupport", "HoldfastTestSupport"]),
        benchmark("growth", ["BenchmarkSupport", "HoldfastTestSupport"]),
        benchmark("fuzz", ["FuzzTargets"]),
        benchmark("replay", ["BenchmarkSupport", "HoldfastTestSupport", "HoldfastCore"]),
        benchmark(
            "follower",
            ["BenchmarkSupport", "HoldfastTestSupport", "HoldfastCore", "HoldfastWire", "CLibpq", arguments]),
    ],
    swiftLanguageModes: [.v6]
)
