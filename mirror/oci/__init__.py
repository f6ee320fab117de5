"""The values and documents of the OCI and Docker specifications. Pure: nothing here does I/O."""
