"""Scalar formulas: what every elementwise op does to one element, for every dtype, on CPU and CUDA alike."""

from numgrad_kernels.scalar.formula import apply as apply
from numgrad_kernels.scalar.formula import table as table
from numgrad_kernels.scalar.ir import Block as Block
from numgrad_kernels.scalar.ir import Value as Value
from numgrad_kernels.scalar.ir import compute_dtype as compute_dtype
from numgrad_kernels.scalar.printer import print_block as print_block
from numgrad_kernels.scalar.printer import print_value as print_value
from numgrad_kernels.scalar.printer import spell as spell
