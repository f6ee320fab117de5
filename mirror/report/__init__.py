"""Results as values, and how they read: as text for a person, as JSON for a program.

`text`      sizes, tables, and text from strangers made harmless
`findings`  what a verification found
`transfers` what a pull or a push did
`images`    what a layout or a registry holds

Every JSON object has a `schema` field, such as `mirror.pull/1`; within one number, fields are only ever added
(docs/json.md).
"""
