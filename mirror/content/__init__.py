"""Content of any store: what stores are, the walk of an image, and the copy and the check of a blob.

`store`          the protocols: `Source`, `Sink`, `VerifiableStore`
`stream`         bytes that are hashed as they pass
`walk`           fetch the manifests of an image; `graph` has its rules, `limits` its limits
`select`         which platforms of an image
`copy`           plan and execute a copy; `blob_transfer` and `filecopy` carry one blob
`wrappers`       stores around other stores
`hashing`        check a stored blob
`decompress`     unpack a layer; `image_config` reads a config
`finding`        a finding of a verification, with its `kinds` and its `finding_text`
"""
