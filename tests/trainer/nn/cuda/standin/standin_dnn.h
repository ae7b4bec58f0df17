#ifndef STANDIN_DNN_H
#define STANDIN_DNN_H
/* What the two halves of the stand-in's cuDNN share: descriptors as lists of attributes, and tensors read off them. */
#include <cstring>
#include <map>
#include <vector>

#include <cudnn.h>

#include "tests/trainer/nn/cuda/standin/standin.h"

extern "C" {
#include "cluster/base/dtype.h"
}

struct standin_dnn {
    cudaStream_t stream = nullptr;
};

struct attribute {
    cudnnBackendAttributeType_t type;
    int64_t n;
    std::vector<char> bytes;
};

struct standin_dnn_desc {
    cudnnBackendDescriptorType_t kind;
    bool finished = false, tensor_cores = false, compiled = false;
    const standin_dnn_desc *graph = nullptr; /* of a configuration and a plan */
    std::map<cudnnBackendAttributeName_t, attribute> list;
};

using desc = const standin_dnn_desc;

template <typename T> T get(desc *d, cudnnBackendAttributeName_t name, int64_t i = 0)
{
    T out{};
    auto at = d->list.find(name);

    if (at != d->list.end() && i < at->second.n)
        memcpy(&out, at->second.bytes.data() + (size_t)i * sizeof out, sizeof out);
    return out;
}

struct tensor {
    cudnnDataType_t type;
    int64_t id, d[4], step[4]; /* n, c, h, w */
    bool nowhere, by_value;

    int64_t at(int64_t n, int64_t c, int64_t h, int64_t w) const
    {
        return n * step[0] + c * step[1] + h * step[2] + w * step[3];
    }
};

inline tensor tensor_of(desc *d)
{
    tensor t{get<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE), get<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID), {}, {},
             get<bool>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL), get<bool>(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE)};

    for (int i = 0; i < 4; i++) {
        t.d[i] = get<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        t.step[i] = get<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    return t;
}

inline int64_t operations(desc *graph)
{
    return graph->list.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).n;
}

inline desc *operation(desc *graph, int64_t i)
{
    return get<desc *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
}

inline double value_at(const tensor &t, const void *at, int64_t i)
{
    switch (t.type) {
    case CUDNN_DATA_FLOAT: return (double)((const float *)at)[i];
    case CUDNN_DATA_BFLOAT16: return (double)f32_of_bf16(((const uint16_t *)at)[i]);
    case CUDNN_DATA_INT32: return (double)((const int32_t *)at)[i];
    case CUDNN_DATA_BOOLEAN: return (double)((const uint8_t *)at)[i];
    }
    return 0.0;
}

/* ---- attention (standin_sdpa.cpp): a graph of products and what is made of each number ---- */

bool is_attention(desc *graph);
bool attention_fits(desc *graph);     /* shapes, and nothing read that is not made before */
bool attention_is_known(desc *graph); /* cuDNN has an engine for it */
int64_t attention_scratch(desc *graph);
cudnnStatus_t attend(cudnnHandle_t h, desc *plan, desc *pack);
#endif
