// swift-tools-version: 6.2
import PackageDescription

/// Ground floor first: a target imports only targets that stand above it in this list.
/// System packages (Debian): libpq-dev zlib1g-dev libzstd-dev, and libisal-dev on x86-64.

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
let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
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
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
    ],
    targets: isalTarget + [
        .target(name: "CShims"),
        .systemLibrary(name: "CLibpq", pkgConfig: "libpq"),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib"),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd"),
        .target(name: "HoldfastCore", dependencies: ["CShims"]),

        .target(
            name: "HoldfastTestSupport", dependencies: ["HoldfastCore"], path: "Tests/Support"),
        tests("HoldfastCore", ["CShims"]),
    ],
    swiftLanguageModes: [.v6]
)
