import Glibc

// Dictionaries iterate in an order that differs from process to process, unless told otherwise before the process
// starts: a seed must repeat its run exactly. And memory that went back to the system after each of a million recoveries
// would be zeroed anew for the next.
if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
    setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
    setenv("MALLOC_MMAP_THRESHOLD_", "1073741824", 1)
    setenv("MALLOC_TRIM_THRESHOLD_", "1073741824", 1)
    execv("/proc/self/exe", CommandLine.unsafeArgv)
    // Without /proc: the run is as good, only not repeatable.
}
CrashCommand.main()
