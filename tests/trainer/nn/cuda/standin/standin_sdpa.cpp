/* The stand-in's cuDNN, attention: every operation of the graph as a plain loop over tensors in the layouts that its descriptors
 * tell, those that lie nowhere in memory of its own; sums in double, each result rounded to its type. Engines are found as cuDNN 9.19
 * finds them (what it says where there is no device: ../test_engines.c): by the order of operations, all compiled; with the
 * gradient for q in bf16 at once two bytes of scratch for each score. Of gradients it has none of heads beyond 128, as the real one
 * for an A100, so that a pass of cuDNN's meets a gradient of ours. */
#include <cmath>
#include <string>

#include "tests/trainer/nn/cuda/standin/standin_dnn.h"

namespace {

/* An operation: x, b and t are sources (id 0: there is none). */
struct step {
    cudnnBackendDescriptorType_t kind;
    int mode;
    int64_t axis;
    tensor x, b, t, y;
};

tensor tensor_at(desc *op, cudnnBackendAttributeName_t name)
{
    desc *d = get<desc *>(op, name);

    return d ? tensor_of(d) : tensor{};
}

step step_of(desc *op)
{
    desc *how;

    switch (op->kind) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return {op->kind, 0, 0, tensor_at(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC), tensor_at(op, CUDNN_ATTR_OPERATION_MATMUL_BDESC), {},
                tensor_at(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC)};
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        how = get<desc *>(op, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
        return {op->kind, (int)get<cudnnReduceTensorOp_t>(how, CUDNN_ATTR_REDUCTION_OPERATOR), 0,
                tensor_at(op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC), {}, {}, tensor_at(op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC)};
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return {op->kind, 0, 0, tensor_at(op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC), {}, {}, tensor_at(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC)};
    default:
        how = get<desc *>(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        return {op->kind, (int)get<cudnnPointwiseMode_t>(how, CUDNN_ATTR_POINTWISE_MODE), get<int64_t>(how, CUDNN_ATTR_POINTWISE_AXIS),
                tensor_at(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC), tensor_at(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                tensor_at(op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC), tensor_at(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC)};
    }
}

std::vector<step> steps_of(desc *graph)
{
    std::vector<step> all;

    for (int64_t i = 0; i < operations(graph); i++)
        all.push_back(step_of(operation(graph, i)));
    return all;
}

/* ---- shapes ---- */

int64_t count(const tensor &t)
{
    return t.d[0] * t.d[1] * t.d[2] * t.d[3];
}

bool repeats(const tensor &x, const tensor &y)
{
    for (int i = 0; i < 4; i++)
        if (x.d[i] != y.d[i] && x.d[i] != 1)
            return false;
    return true;
}

bool fits(const step &s)
{
    const bool heads = s.x.d[0] == s.y.d[0] && s.x.d[1] == s.y.d[1];

    switch (s.kind) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return heads && s.b.d[0] == s.y.d[0] && s.b.d[1] == s.y.d[1] && s.x.d[2] == s.y.d[2] && s.x.d[3] == s.b.d[2] && s.b.d[3] == s.y.d[3];
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: return heads && s.x.d[2] == s.y.d[2] && s.y.d[3] == 1;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: return count(s.x) == count(s.y);
    default: return repeats(s.x, s.y) && (!s.b.id || repeats(s.b, s.y)) && (!s.t.id || repeats(s.t, s.y));
    }
}

/* How far from its first element the last one lies. */
int64_t extent(const tensor &t)
{
    int64_t last = 0;

    for (int i = 0; i < 4; i++)
        last += (t.d[i] - 1) * t.step[i];
    return last + 1;
}

size_t bytes_of(const tensor &t)
{
    return (size_t)extent(t) * (t.type == CUDNN_DATA_BFLOAT16 ? 2 : t.type == CUDNN_DATA_BOOLEAN ? 1 : 4);
}

/* ---- which graphs there is an engine for ---- */

char letter_of(const step &s)
{
    switch (s.kind) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: return 'P';
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: return s.mode == CUDNN_REDUCE_TENSOR_MAX ? 'M' : 'S';
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: return 'T';
    default: return "+?>/eiIl*-"[s.mode]; /* as the header has them */
    }
}

/* The operations in order, a letter each, but for those that hide scores. */
std::string spelled(const std::vector<step> &all)
{
    std::string text;

    for (const step &s : all)
        text += letter_of(s);
    const size_t hidden = text.find("ii>?");
    return hidden == std::string::npos ? text : text.erase(hidden, 4);
}

const char PASS[] = "P*M-eSl+/P", GRADIENT[] = "*S*P*-eTPP-**TPTP", ATOMICS[] = "*S*P*-eTPP-**TPTPI";

/* ---- running it ---- */

struct place {
    tensor t;
    char *at = nullptr;
    std::vector<char> own; /* of what lies nowhere, and values */
};

using places = std::map<int64_t, place>;

/* An element, repeated where there is one only. */
double read(const places &all, const tensor &t, const int64_t i[4])
{
    const place &p = all.at(t.id);

    return value_at(t, p.at, t.at(t.d[0] == 1 ? 0 : i[0], t.d[1] == 1 ? 0 : i[1], t.d[2] == 1 ? 0 : i[2], t.d[3] == 1 ? 0 : i[3]));
}

void write(const places &all, const tensor &t, const int64_t i[4], double x)
{
    char *base = all.at(t.id).at;
    const int64_t at = t.at(i[0], i[1], i[2], i[3]);

    switch (t.type) {
    case CUDNN_DATA_FLOAT: ((float *)base)[at] = (float)x; break;
    case CUDNN_DATA_BFLOAT16: ((uint16_t *)base)[at] = bf16_of_f32((float)x); break;
    case CUDNN_DATA_INT32: ((int32_t *)base)[at] = (int32_t)x; break;
    case CUDNN_DATA_BOOLEAN: ((uint8_t *)base)[at] = x != 0.0; break;
    }
}

template <typename F> void each(const tensor &t, F f)
{
    int64_t i[4];

    for (i[0] = 0; i[0] < t.d[0]; i[0]++)
        for (i[1] = 0; i[1] < t.d[1]; i[1]++)
            for (i[2] = 0; i[2] < t.d[2]; i[2]++)
                for (i[3] = 0; i[3] < t.d[3]; i[3]++)
                    f(i);
}

double product(const places &all, const step &s, const int64_t i[4])
{
    double sum = 0.0;

    for (int64_t k = 0; k < s.x.d[3]; k++) {
        const int64_t a[] = {i[0], i[1], i[2], k}, b[] = {i[0], i[1], k, i[3]};
        sum += read(all, s.x, a) * read(all, s.b, b);
    }
    return sum;
}

double reduced(const places &all, const step &s, const int64_t i[4])
{
    double sum = s.mode == CUDNN_REDUCE_TENSOR_MAX ? -INFINITY : 0.0;

    for (int64_t k = 0; k < s.x.d[3]; k++) {
        const int64_t a[] = {i[0], i[1], i[2], k};
        const double x = read(all, s.x, a);
        sum = s.mode == CUDNN_REDUCE_TENSOR_MAX ? std::fmax(sum, x) : sum + x;
    }
    return sum;
}

double made(const places &all, const step &s, const int64_t i[4])
{
    const double x = s.mode == CUDNN_POINTWISE_GEN_INDEX ? (double)i[s.axis] : read(all, s.x, i), b = s.b.id ? read(all, s.b, i) : 0.0;

    switch (s.mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_EXP: return std::exp(x);
    case CUDNN_POINTWISE_LOG: return std::log(x);
    case CUDNN_POINTWISE_CMP_GE: return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT: return read(all, s.t, i) != 0.0 ? x : b;
    default: return x;
    }
}

/* The elements in memory, as they follow each other there. */
void reshaped(const places &all, const step &s)
{
    tensor x = s.x, y = s.y;
    const int64_t n = extent(x);

    for (tensor *t : {&x, &y})
        for (int i = 0; i < 4; i++) {
            t->d[i] = i == 3 ? n : 1;
            t->step[i] = i == 3;
        }
    each(x, [&](const int64_t i[4]) { write(all, y, i, read(all, x, i)); });
}

void take(const places &all, const step &s)
{
    switch (s.kind) {
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: reshaped(all, s); break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: each(s.y, [&](const int64_t i[4]) { write(all, s.y, i, product(all, s, i)); }); break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: each(s.y, [&](const int64_t i[4]) { write(all, s.y, i, reduced(all, s, i)); }); break;
    default: each(s.y, [&](const int64_t i[4]) { write(all, s.y, i, made(all, s, i)); });
    }
}

/* Where a tensor lies: a value is taken now, as a graph of CUDA's would keep it. */
bool lay(places &all, const tensor &t, desc *pack)
{
    if (!t.id || all.count(t.id))
        return true;
    place &p = all[t.id];
    p.t = t;
    if (t.nowhere)
        return true;
    for (int64_t k = 0; k < pack->list.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).n; k++)
        if (get<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, k) == t.id)
            p.at = get<char *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, k);
    if (p.at && t.by_value)
        p.own.assign(p.at, p.at + bytes_of(t));
    return p.at != nullptr;
}

} // namespace

bool is_attention(desc *graph)
{
    const cudnnBackendDescriptorType_t first = operation(graph, 0)->kind;

    return first == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR || first == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
}

bool attention_fits(desc *graph)
{
    std::map<int64_t, bool> there;

    for (const step &s : steps_of(graph)) {
        for (const tensor *t : {&s.x, &s.b, &s.t})
            if (t->id && t->nowhere && !there[t->id])
                return false;
        if (!fits(s) || there[s.y.id] || s.y.by_value)
            return false;
        there[s.y.id] = true;
    }
    return true;
}

bool attention_is_known(desc *graph)
{
    const std::vector<step> all = steps_of(graph);
    const std::string text = spelled(all);
    const int64_t d = all[0].x.d[3];

    for (const step &s : all)
        for (const tensor *t : {&s.x, &s.b, &s.y})
            if (s.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR && !t->nowhere && t->type != CUDNN_DATA_BFLOAT16 && text != ATOMICS)
                return false;
    return d % 8 == 0 && (text == PASS || (d <= 128 && (text == GRADIENT || text == ATOMICS)));
}

int64_t attention_scratch(desc *graph)
{
    const std::vector<step> all = steps_of(graph);
    const tensor &scores = all[3].y;

    if (spelled(all) != GRADIENT)
        return 0;
    return 2 * scores.d[0] * scores.d[1] * ((scores.d[2] + 63) / 64 * 64) * ((scores.d[3] + 63) / 64 * 64);
}

cudnnStatus_t attend(cudnnHandle_t h, desc *plan, desc *pack)
{
    const std::vector<step> all = steps_of(plan->graph);
    const std::string text = spelled(all);
    const size_t scratch = (size_t)attention_scratch(plan->graph);
    char *work = get<char *>(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    places at;

    if (!plan->finished || !pack->finished || !work)
        return CUDNN_STATUS_BAD_PARAM;
    for (const step &s : all)
        for (const tensor *t : {&s.x, &s.b, &s.t, &s.y})
            if (!lay(at, *t, pack))
                return CUDNN_STATUS_BAD_PARAM;
    standin_dnn_calls[text == PASS ? STANDIN_DNN_PASS : text == GRADIENT ? STANDIN_DNN_GRADIENT : STANDIN_DNN_ATOMICS]++;
    cudaError_t rc = standin_do(h->stream, [=] {
        places now = at;
        memset(work, 0xff, scratch);
        for (auto &p : now) {
            if (p.second.t.nowhere)
                p.second.own.resize(bytes_of(p.second.t));
            if (!p.second.own.empty())
                p.second.at = p.second.own.data();
        }
        for (const step &s : all)
            take(now, s);
    });
    return rc == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}
