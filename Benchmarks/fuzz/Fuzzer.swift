#if Fuzzing
    import FuzzTargets
    import Glibc

    /// libFuzzer as a library: `FuzzerDriver.cpp` of LLVM, which `deploy/fuzz` links.
    @_silgen_name("LLVMFuzzerRunDriver")
    private func runDriver(
        _ count: UnsafeMutablePointer<CInt>,
        _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
        _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
    ) -> CInt

    enum Fuzzer {
        /// Set once, before the driver calls back on this thread.
        nonisolated(unsafe) private static var target: (any FuzzTarget.Type)!

        /// - Returns: the process's exit status.
        static func run(_ target: any FuzzTarget.Type, _ arguments: [String]) -> CInt {
            Self.target = target
            var words = ([CommandLine.arguments[0]] + arguments).map { strdup($0) } + [nil]
            var count = CInt(words.count - 1)
            return words.withUnsafeMutableBufferPointer { buffer in
                var base = buffer.baseAddress!  // It has its closing nil at least.
                return runDriver(&count, &base) { bytes, count in
                    Fuzzer.target.run(UnsafeRawBufferPointer(start: bytes, count: count))
                    return 0
                }
            }
        }
    }
#endif
