"""Native kernels of numgrad: arrays in, arrays out; this package knows nothing of graphs.

`settings` says how to run, `engine` turns LLVM code into addresses, `codegen` turns Python kernels into object code,
`disk` keeps object code between processes, `build` ties these together. `driver` runs a table of kernels, `threads`
runs one kernel on several threads, `entry` is the native way in from Python. `prelude` and `scalar` hold what kernels
are written with; `library` and the family modules hold the kernels that are written by hand.
"""

__version__ = "0.1.0"
