import Glibc

/// Takes a password from whoever runs the command: from a terminal twice and without showing it, else the first line of
/// stdin. Never from an argument, which every user of the machine could see.
package enum PasswordInput {
    package static func read(for name: String) throws -> [UInt8] {
        guard isatty(STDIN_FILENO) == 1 else { return try line() }
        let first = try ask("password for \(name): ")
        guard try ask("again: ") == first else { throw UserError.passwordsDiffer }
        return first
    }

    private static func ask(_ prompt: String) throws -> [UInt8] {
        var old = termios()
        guard tcgetattr(STDIN_FILENO, &old) == 0 else { throw UserError.noPassword }
        // Without signals, as getpass(3): a Ctrl-C that ended the program here would leave a terminal that shows nothing.
        var quiet = old
        quiet.c_lflag &= ~tcflag_t(ECHO | ISIG)
        guard tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0 else { throw UserError.noPassword }
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &old)
            _ = write(STDERR_FILENO, "\n", 1)
        }
        _ = prompt.withCString { write(STDERR_FILENO, $0, strlen($0)) }
        let password = try line()
        guard !password.contains(3) else { throw UserError.noPassword }
        return password
    }

    private static func line() throws -> [UInt8] {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while line.count <= 1024 {
            let count = Glibc.read(STDIN_FILENO, &byte, 1)
            if count < 0, errno == EINTR { continue }
            if count <= 0 || byte == 0x0A { break }
            line.append(byte)
        }
        if line.last == 0x0D { line.removeLast() }
        guard !line.isEmpty else { throw UserError.noPassword }
        return line
    }
}
