/* The stand-in's cuDNN: the backend API's descriptors as lists of attributes, and one convolution of a graph, forward and
 * both gradients, as plain loops in double, and what a forward pass adds behind it; attention is standin_sdpa.cpp's. As the real one it wants descriptors finished
 * before they are used and gives nothing of unfinished ones. What it lists is what cuDNN 9.19 lists for an H200 (as the real one
 * says where there is none: ../engines.c): of bf16 a result in bf16, on tensor cores; in f32 for a forward pass only, by an engine
 * that is compiled first, in the list of what works for most; graphs that add by engines that are compiled, and (so that both are
 * met) for an odd number of channels by one that is ready. Of f32 engines that compute otherwise than we promise (in TF32) come
 * first: their results are wrong on purpose. */
#include <cstdio>
#include <cstring>
#include <vector>

#include <cudnn.h>

#include "tests/trainer/nn/cuda/standin/standin_dnn.h"

namespace {

size_t bytes_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_FLOAT: return sizeof(float);
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR: return sizeof(void *);
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_BEHAVIOR_NOTE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_REDUCTION_OPERATOR_TYPE:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE: return sizeof(int);
    }
    return 0;
}

/* ---- a convolution, read off its descriptors ---- */

struct convolution {
    cudnnBackendDescriptorType_t kind;
    tensor x, w, y;
    int64_t stride[2], before[2], after[2];
    float alpha, beta;
};

struct names {
    cudnnBackendAttributeName_t how, x, w, y, alpha, beta;
};

names names_of(cudnnBackendDescriptorType_t kind)
{
    switch (kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    default:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    }
}

convolution convolution_of(desc *op)
{
    const names at = names_of(op->kind);
    desc *how = get<desc *>(op, at.how);
    convolution v{op->kind, tensor_of(get<desc *>(op, at.x)), tensor_of(get<desc *>(op, at.w)),
                  tensor_of(get<desc *>(op, at.y)), {}, {}, {}, get<float>(op, at.alpha), get<float>(op, at.beta)};

    for (int i = 0; i < 2; i++) {
        v.stride[i] = get<int64_t>(how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        v.before[i] = get<int64_t>(how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        v.after[i] = get<int64_t>(how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
    }
    return v;
}

/* ---- what is added behind it ---- */

struct sum {
    tensor x, b, y;
};

sum sum_of(desc *op)
{
    return {tensor_of(get<desc *>(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC)), tensor_of(get<desc *>(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC)),
            tensor_of(get<desc *>(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC))};
}

bool fits(const sum &s, desc *op)
{
    desc *how = get<desc *>(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    bool good = get<cudnnPointwiseMode_t>(how, CUDNN_ATTR_POINTWISE_MODE) == CUDNN_POINTWISE_ADD && s.x.type == CUDNN_DATA_FLOAT
                && s.b.type == CUDNN_DATA_FLOAT && s.y.type == CUDNN_DATA_FLOAT && !s.b.nowhere && s.x.nowhere;

    for (int i = 0; i < 4; i++)
        good = good && s.x.d[i] == s.y.d[i] && (s.b.d[i] == s.y.d[i] || s.b.d[i] == 1);
    return good;
}

std::vector<sum> sums_of(desc *graph)
{
    std::vector<sum> all;

    for (int64_t i = 1; i < operations(graph); i++)
        all.push_back(sum_of(operation(graph, i)));
    return all;
}

/* One behind the other, from the convolution's result to what has a place. */
bool chained(desc *graph)
{
    int64_t last = convolution_of(operation(graph, 0)).y.id;
    bool nowhere = convolution_of(operation(graph, 0)).y.nowhere;

    for (int64_t i = 1; i < operations(graph); i++) {
        const sum s = sum_of(operation(graph, i));
        if (!nowhere || s.x.id != last || !fits(s, operation(graph, i)))
            return false;
        last = s.y.id;
        nowhere = s.y.nowhere;
    }
    return !nowhere;
}

bool fits(const convolution &v)
{
    bool good = v.x.d[0] == v.y.d[0] && v.x.d[1] == v.w.d[1] && v.w.d[0] == v.y.d[1] && v.alpha == 1.0f
                && v.beta == 0.0f;

    for (int i = 0; i < 2 && good; i++)
        good = v.stride[i] > 0
               && (v.x.d[2 + i] + v.before[i] + v.after[i] - v.w.d[2 + i]) / v.stride[i] + 1 == v.y.d[2 + i];
    return good;
}

/* Every pair of x and y that a kernel's place joins, once. */
template <typename F> void each_pair(const convolution &v, F f)
{
    for (int64_t n = 0; n < v.y.d[0]; n++)
        for (int64_t i = 0; i < v.y.d[2]; i++)
            for (int64_t j = 0; j < v.y.d[3]; j++)
                for (int64_t r = 0; r < v.w.d[2]; r++)
                    for (int64_t q = 0; q < v.w.d[3]; q++) {
                        int64_t h = i * v.stride[0] + r - v.before[0], w = j * v.stride[1] + q - v.before[1];
                        if (h < 0 || h >= v.x.d[2] || w < 0 || w >= v.x.d[3])
                            continue;
                        for (int64_t o = 0; o < v.y.d[1]; o++)
                            for (int64_t c = 0; c < v.x.d[1]; c++)
                                f(v.x.at(n, c, h, w), v.w.at(o, c, r, q), v.y.at(n, o, i, j));
                    }
}

float *element(const tensor &t, void *at, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (float *)at + t.at(t.d[0] == 1 ? 0 : n, t.d[1] == 1 ? 0 : c, t.d[2] == 1 ? 0 : h, t.d[3] == 1 ? 0 : w);
}

void add_to(const tensor &y, void *out, const tensor &b, void *more)
{
    for (int64_t n = 0; n < y.d[0]; n++)
        for (int64_t c = 0; c < y.d[1]; c++)
            for (int64_t h = 0; h < y.d[2]; h++)
                for (int64_t w = 0; w < y.d[3]; w++)
                    *element(y, out, n, c, h, w) += *element(b, more, n, c, h, w);
}

void convolve(const convolution &v, void *x, void *w, void *y)
{
    const bool to_x = v.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
               to_w = v.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
    const tensor &made = to_x ? v.x : to_w ? v.w : v.y;
    void *out = to_x ? x : to_w ? w : y;
    std::vector<double> sum((size_t)(made.d[0] * made.d[1] * made.d[2] * made.d[3]));

    each_pair(v, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
        if (to_x)
            sum[(size_t)at_x] += value_at(v.w, w, at_w) * value_at(v.y, y, at_y);
        else if (to_w)
            sum[(size_t)at_w] += value_at(v.x, x, at_x) * value_at(v.y, y, at_y);
        else
            sum[(size_t)at_y] += value_at(v.x, x, at_x) * value_at(v.w, w, at_w);
    });
    for (size_t i = 0; i < sum.size(); i++)
        if (made.type == CUDNN_DATA_FLOAT)
            ((float *)out)[i] = (float)sum[i];
        else
            ((uint16_t *)out)[i] = bf16_of_f32((float)sum[i]);
}

/* ---- what each kind of descriptor must have ---- */

bool parts_are_finished(desc *d)
{
    for (const auto &at : d->list)
        for (int64_t i = 0; at.second.type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < at.second.n; i++) {
            desc *part = get<desc *>(d, at.first, i);
            if (!part || !part->finished)
                return false;
        }
    return true;
}

enum { SCRATCH = 512 };

cudnnStatus_t finish(standin_dnn_desc *d)
{
    switch (d->kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return fits(convolution_of(d)) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return get<void *>(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE) && (is_attention(d) ? attention_fits(d) : chained(d)) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: {
        desc *config = get<desc *>(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        d->graph = config->graph;
        d->tensor_cores = config->tensor_cores;
        d->compiled = config->compiled;
        standin_dnn_plans++;
        standin_dnn_compiled += d->compiled;
        return standin_plain() ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
    }
    default: return CUDNN_STATUS_SUCCESS;
    }
}

void put(void *values, int64_t *n, const void *from, size_t bytes, int64_t many)
{
    if (values)
        memcpy(values, from, bytes);
    *n = many;
}

struct engine { bool tensor_cores, compiled; };

/* Sources of one type; the result, too, or f32. */
bool types_fit(const convolution &v, const tensor &made, const tensor &a, const tensor &b)
{
    return a.type == b.type && (made.type == a.type || (made.type == CUDNN_DATA_FLOAT && &made == &v.y));
}

bool types_fit(const convolution &v)
{
    switch (v.kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: return types_fit(v, v.x, v.w, v.y);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: return types_fit(v, v.w, v.x, v.y);
    default: return types_fit(v, v.y, v.x, v.w);
    }
}

std::vector<engine> engines_of(desc *graph, bool expected)
{
    if (is_attention(graph))
        return expected && attention_is_known(graph) ? std::vector<engine>{{true, true}} : std::vector<engine>{};
    const convolution v = convolution_of(operation(graph, 0));

    if (!types_fit(v))
        return {};
    if (operations(graph) > 1)
        return !expected ? std::vector<engine>{} : v.w.d[0] % 2 == 1
                   ? std::vector<engine>{{true, true}, {false, true}, {false, false}} : std::vector<engine>{{true, true}, {false, true}};
    if (v.x.type != v.y.type)
        return expected ? std::vector<engine>{} : std::vector<engine>{{true, true}};
    return {{expected, false}};
}

/* What is expected to be fastest, or what works for most. */
int64_t list_engines(desc *heuristics, int64_t room, cudnnBackendDescriptor_t *part)
{
    desc *graph = get<desc *>(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    int64_t n = 0;

    for (const engine &e : engines_of(graph, get<cudnnBackendHeurMode_t>(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_A)) {
        if (n == room)
            break;
        part[n]->graph = graph;
        part[n]->tensor_cores = e.tensor_cores;
        part[n]->compiled = e.compiled;
        part[n++]->finished = true;
    }
    return n;
}

} // namespace

int standin_dnn_calls[STANDIN_DNN_ENGINES], standin_dnn_plans, standin_dnn_compiled;

size_t cudnnGetVersion(void)
{
    return 91900; /* whose lists these are */
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    *out = new standin_dnn;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    delete h;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s)
{
    h->stream = s;
    return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t rc)
{
    static const char *const TEXT[] = {"success", "bad parameter", "not supported", "not initialized"};

    return TEXT[rc];
}

void cudnnGetLastErrorString(char *message, size_t most)
{
    snprintf(message, most, "the stand-in was told to refuse");
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind, cudnnBackendDescriptor_t *out)
{
    *out = new standin_dnn_desc;
    (*out)->kind = kind;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (d->finished || n < 1 || !values)
        return CUDNN_STATUS_BAD_PARAM;
    d->list[name] = attribute{type, n, {(const char *)values, (const char *)values + (size_t)n * bytes_of(type)}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    if (d->finished || !parts_are_finished(d))
        return CUDNN_STATUS_BAD_PARAM;
    cudnnStatus_t rc = finish(d);
    d->finished = rc == CUDNN_STATUS_SUCCESS;
    return rc;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t room, int64_t *n, void *values)
{
    const int64_t scratch = SCRATCH + (d->graph && is_attention(d->graph) ? attention_scratch(d->graph) : 0);
    const cudnnBackendNumericalNote_t note = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    const cudnnBackendBehaviorNote_t compiled = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    cudnnBackendDescriptor_t *part = (cudnnBackendDescriptor_t *)values;

    if (!d->finished)
        return CUDNN_STATUS_BAD_PARAM;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        *n = list_engines(d, room, part);
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: put(values, n, &compiled, sizeof compiled, d->compiled); return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        part[0]->tensor_cores = d->tensor_cores;
        part[0]->compiled = d->compiled;
        part[0]->finished = true;
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: put(values, n, &note, sizeof note, d->tensor_cores); return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        put(values, n, &scratch, sizeof scratch, 1);
        return CUDNN_STATUS_SUCCESS;
    default: return CUDNN_STATUS_NOT_SUPPORTED;
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (is_attention(plan->graph))
        return standin_refuses() ? CUDNN_STATUS_NOT_SUPPORTED : attend(h, plan, pack);
    convolution v = convolution_of(operation(plan->graph, 0));
    const std::vector<sum> sums = sums_of(plan->graph);
    char *work = get<char *>(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    std::vector<const tensor *> parts = {&v.x, &v.w, &v.y};
    std::vector<void *> place;
    const bool rounds = plan->tensor_cores && v.x.type == CUDNN_DATA_FLOAT;

    if (standin_refuses())
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (!plan->finished || !pack->finished || !work)
        return CUDNN_STATUS_BAD_PARAM;
    if (!sums.empty())
        v.y = sums.back().y;
    for (const sum &s : sums)
        parts.push_back(&s.b);
    for (const tensor *part : parts) {
        void *found = nullptr;
        for (int64_t k = 0; k < pack->list.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).n; k++)
            if (get<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, k) == part->id)
                found = get<void *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, k);
        if (!found)
            return CUDNN_STATUS_BAD_PARAM;
        place.push_back(found);
    }
    standin_dnn_calls[sums.empty() ? STANDIN_DNN_ALONE : plan->compiled ? STANDIN_DNN_COMPILED : STANDIN_DNN_WHOLE]++;
    cudaError_t rc = standin_do(h->stream, [=] {
        memset(work, rounds ? 0x7f : 0xff, SCRATCH);
        convolve(v, place[0], place[1], place[2]);
        for (size_t i = 0; i < sums.size(); i++)
            add_to(v.y, place[2], sums[i].b, place[3 + i]);
        if (rounds)
            memset(place[2], 0xff, 4);
    });
    return rc == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}
