"""The ops floor: one record per op, one module per family; this list names the families."""

from numgrad.graph.variable import Variable
from numgrad.ops.activation import *
from numgrad.ops.aggregation import *
from numgrad.ops.arithmetic import *
from numgrad.ops.axes import *
from numgrad.ops.casting import *
from numgrad.ops.choice import *
from numgrad.ops.cholesky import *
from numgrad.ops.comparison import *
from numgrad.ops.complex import *
from numgrad.ops.conversion import *
from numgrad.ops.creation import *
from numgrad.ops.einsum import *
from numgrad.ops.exponential import *
from numgrad.ops.extrema import *
from numgrad.ops.gathering import *
from numgrad.ops.indexing import *
from numgrad.ops.joining import *
from numgrad.ops.linalg import *
from numgrad.ops.lu import *
from numgrad.ops.norms import *
from numgrad.ops.operators import install
from numgrad.ops.padding import *
from numgrad.ops.pinv import *
from numgrad.ops.products import *
from numgrad.ops.qr import *
from numgrad.ops.ranges import *
from numgrad.ops.reduction import *
from numgrad.ops.repeating import *
from numgrad.ops.scan import *
from numgrad.ops.shaping import *
from numgrad.ops.slicing import *
from numgrad.ops.sorting import *
from numgrad.ops.special import *
from numgrad.ops.spectral import *
from numgrad.ops.statistics import *
from numgrad.ops.triangles import *
from numgrad.ops.trigonometric import *
from numgrad.ops.updating import *

install()
install(Variable)
