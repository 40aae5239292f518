import FuzzTargets
import Glibc

/// `bench-fuzz list`, `bench-fuzz seeds TARGET DIR`, `bench-fuzz replay TARGET FILE…`, and, when it was built by
/// `deploy/fuzz`, `bench-fuzz run TARGET` with libFuzzer's own arguments behind.

func fail(_ what: String) -> Never {
    let line = what + "\n"
    _ = write(STDERR_FILENO, line, line.utf8.count)
    exit(64)
}

let usage = "usage: bench-fuzz list | seeds TARGET DIR | replay TARGET FILE… | run TARGET [libFuzzer's arguments]"
let words = CommandLine.arguments
if words.count == 2, words[1] == "list" {
    for target in FuzzTargets.all { print(target.name) }
    exit(0)
}
guard words.count >= 3 else { fail(usage) }
guard let target = FuzzTargets.named(words[2]) else {
    fail("there is no target \(words[2]); there are: " + FuzzTargets.all.map { $0.name }.joined(separator: " "))
}

switch words[1] {
case "seeds" where words.count == 4:
    for (number, seed) in try target.seeds().enumerated() {
        let path = "\(words[3])/seed-\(number)"
        guard let file = fopen(path, "w") else { fail("cannot create \(path): error \(errno)") }
        guard fwrite(seed, 1, seed.count, file) == seed.count, fclose(file) == 0 else {
            fail("cannot write \(path): error \(errno)")
        }
    }
case "replay":
    for path in words.dropFirst(3) {
        target.run(bytes: try contents(of: path))
    }
case "run":
    #if Fuzzing
        exit(Fuzzer.run(target, Array(words.dropFirst(3))))
    #else
        fail("this bench-fuzz has no libFuzzer: use deploy/fuzz TARGET [SECONDS]")
    #endif
default: fail(usage)
}

func contents(of path: String) throws -> [UInt8] {
    guard let file = fopen(path, "r") else { fail("cannot open \(path): error \(errno)") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&piece, 1, piece.count, file)
        if count == 0 { return bytes }
        bytes += piece[..<count]
    }
}
