import Foundation

/// Processor time, of user and system, that a process and its children have used so far, those included that are gone;
/// in seconds. What a follower costs its leader is told by it also where both share a machine's cores.
func processorSeconds(of process: pid_t) -> Double {
    let own = processorTicks(process)
    var ticks = own.used + own.ofGoneChildren
    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
        guard let child = pid_t(name), child != process else { continue }
        let times = processorTicks(child)
        if times.parent == process { ticks += times.used }
    }
    return Double(ticks) / Double(sysconf(Int32(_SC_CLK_TCK)))
}

/// From `/proc/PID/stat`; zeros when the process is gone.
private func processorTicks(_ process: pid_t) -> (parent: pid_t, used: Int, ofGoneChildren: Int) {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
        // The name in parentheses may hold anything.
        let name = text.lastIndex(of: ")")
    else { return (0, 0, 0) }
    let fields = text[text.index(after: name)...].split(separator: " ").map { Int($0) ?? 0 }
    guard fields.count > 14 else { return (0, 0, 0) }
    return (pid_t(fields[1]), fields[11] + fields[12], fields[13] + fields[14])
}
