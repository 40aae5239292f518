let goldenHeader = ""
let goldenRecords: [String] = []
let goldenDumpLine = ""
let goldenDumpJSON = ""
