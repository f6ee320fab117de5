"""Results as values, and their forms: text for a person, JSON or JUnit XML for a program.

`images`     the images of a layout or a registry: `ls`, `inspect`, `tags`
`layouts`    what was removed from a layout, or is being served: `rm`, `prune`, `serve`
`transfers`  what was transferred: `pull`, `push`, `export`, `import`, `copy`
`findings`   what a verification found, and what a repair fixed

`text`       any of these as text: `image_text`, `layout_text`, `transfer_text`, `verify_text`; and `login_text`
`view`       the width of the output, and whether long lists are complete
`json`       any of these as JSON
`junit`      a verification as JUnit XML

Values contain facts, and sentences only about errors and warnings; the forms word everything else. Field names match
the JSON (docs/reference/json.md), where they are in camelCase. Each JSON object has a `schema` such as `mirror.pull/1`;
within one number, fields are only ever added.
"""
