/* The table of operations; its rows stand in op/. */
#include "trainer/nn/node.h"

const nn_op *const nn_ops[NN_OP_COUNT] = {
#define NN_OP(name) [NN_OP_##name] = &nn_op_##name,
#include "trainer/nn/ops.def"
#undef NN_OP
};
