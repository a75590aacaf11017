The test suites that every store and every directory passes come with the package, in `gateway.testing`.
