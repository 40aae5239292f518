/// What a command has to say: for people, and as one JSON object. Both are made of the same facts.
package struct Report: Sendable {
    /// Whole lines; printed as it is.
    package var text: String
    package var json: JSONValue
    /// Something was found that makes the command end with this status, although it did its work.
    package var hasProblems = false

    package init(text: String, json: JSONValue, hasProblems: Bool = false) {
        self.text = text
        self.json = json
        self.hasProblems = hasProblems
    }
}
