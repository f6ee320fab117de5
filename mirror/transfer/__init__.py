"""Images from one store to another. `pull`, `push`, `copy`, `export` and `import_` choose source, target and options.

`engine`            carries them out, in batches: find, select, plan, copy, name
`target`            layouts and archives as targets; `registry_target` for registries, which reads every tag back
`image`             one image on its way, with its `referrers`
`naming`            the name that an image gets in a registry
`docker_load`       the one platform that docker loads
`outcome`           the results so far; `receipts` describes them for a receipt
"""
