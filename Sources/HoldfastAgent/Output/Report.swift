import HoldfastCore

/// What a command has to say: for people, and as one JSON object. Both are made of the same facts.
package struct Report: Sendable {
    /// Whole lines; printed as it is.
    package var text: String
    package var json: JSONValue
    /// How the command ends although it did its work: with `dataError` when it found problems.
    package var status: ExitStatus

    package init(text: String, json: JSONValue, status: ExitStatus = .done) {
        self.text = text
        self.json = json
        self.status = status
    }
}
