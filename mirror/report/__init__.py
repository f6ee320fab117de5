"""Results as values, and how they are written: as text for a person, as JSON or JUnit for a program.

`images`     the images of a layout or a registry: `ls`, `inspect`, `tags`
`layouts`    what was removed from a layout: `rm`, `prune`
`server`     what is being served
`transfers`  what a pull, push, export, import or copy did
`findings`   what a verification found
`anchors`    what agrees with something that came out of band
`repairs`    what a repair fixed

`json`       any of these as JSON
`text`       … as text; `verification_text` and `login_text` those of `verify`, `login` and `logout`
`junit`      a verification as JUnit XML

Values contain no text for people. Their field names match the JSON (docs/reference/json.md), where they are in
camelCase. Each JSON object has a `schema` such as `mirror.pull/1`; within one number, fields are only ever added.
"""
