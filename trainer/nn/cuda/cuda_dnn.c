/* Descriptors, and the search for an engine. cuDNN's heuristics list engines, and the first is taken that gives the same bits each
 * time and computes as is promised: in f32 throughout (no TF32, no rounding of inputs), or of sources in bf16 with sums in f32; no
 * Winograd. What they say of themselves (notes) is believed; of attention's gradients they say too little (cuda_sdpa.c). */
#include "trainer/nn/cuda/cuda_dnn.h"
#include "trainer/nn/cuda/cuda.h"

void dnn_forget(desc *d)
{
    if (*d)
        cudnnBackendDestroyDescriptor(*d);
    *d = NULL;
}

cudnnStatus_t dnn_make(desc *out, cudnnBackendDescriptorType_t kind, const attribute *list, int n)
{
    DNN(cudnnBackendCreateDescriptor(kind, out));
    for (int i = 0; i < n; i++)
        DNN(cudnnBackendSetAttribute(*out, list[i].name, list[i].type, list[i].n, list[i].values));
    return cudnnBackendFinalize(*out);
}

/* ---- the search ---- */

enum { ENGINES = 64, NOTES = 32 }; /* the most that one answer may list */
enum { SCRATCH_MOST = 1 << 30 };   /* an engine that wants more is passed over: some lay all windows or all scores out */

static bool unwanted(cudnnBackendNumericalNote_t note, bool half)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return !half; /* of f32 it makes TF32 */
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD: /* its transforms lose a digit or two */
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return true;
    default: return false;
    }
}

static cudnnStatus_t check_numbers(desc engine, bool half, bool cores, bool *good)
{
    cudnnBackendNumericalNote_t notes[NOTES];
    int64_t n = 0;
    bool has_cores = false;

    DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &n, notes));
    for (int64_t i = 0; i < n && i < NOTES; i++) {
        *good = *good && !unwanted(notes[i], half);
        has_cores = has_cores || notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    }
    *good = *good && (has_cores || !cores);
    return CUDNN_STATUS_SUCCESS;
}

/* Whether it is ready, or may be compiled. */
static cudnnStatus_t check_compiling(desc engine, bool may, bool *good)
{
    cudnnBackendBehaviorNote_t notes[NOTES];
    int64_t n = 0;

    DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, NOTES, &n, notes));
    for (int64_t i = 0; i < n && i < NOTES; i++)
        *good = *good && (notes[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION || may);
    return CUDNN_STATUS_SUCCESS;
}

/* Whether this engine computes as we promise, and is what is looked for. */
static bool fits(desc config, dnn_wanted w)
{
    int64_t n = 0;
    desc engine = NULL;
    bool good = true;
    cudnnStatus_t rc = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine);

    if (rc == CUDNN_STATUS_SUCCESS)
        rc = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = check_numbers(engine, w.half, w.cores, &good);
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = check_compiling(engine, w.compiled, &good);
    dnn_forget(&engine);
    return good && rc == CUDNN_STATUS_SUCCESS;
}

/* An engine that was listed may still refuse when it is to be made ready. */
static cudnnStatus_t make_plan(desc *plan, int64_t *scratch, cudnnHandle_t handle, desc config)
{
    const attribute list[] = {
        {CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle},
        {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config},
    };
    int64_t n = 0;
    cudnnStatus_t rc = MAKE(plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, list);

    if (rc == CUDNN_STATUS_SUCCESS)
        rc = cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, scratch);
    if (rc == CUDNN_STATUS_SUCCESS && *scratch > SCRATCH_MOST)
        rc = CUDNN_STATUS_NOT_SUPPORTED;
    if (rc != CUDNN_STATUS_SUCCESS)
        dnn_forget(plan);
    return rc;
}

/* The first of these that fits and can be made ready. */
static cudnnStatus_t choose(desc *plan, int64_t *scratch, cudnnHandle_t handle, desc *configs, int64_t n, dnn_wanted w)
{
    for (int64_t i = 0; i < n; i++)
        if (fits(configs[i], w) && make_plan(plan, scratch, handle, configs[i]) == CUDNN_STATUS_SUCCESS)
            return CUDNN_STATUS_SUCCESS;
    return CUDNN_STATUS_NOT_SUPPORTED;
}

static cudnnStatus_t list_and_choose(desc *plan, int64_t *scratch, cudnnHandle_t handle, desc heuristics, dnn_wanted w)
{
    desc configs[ENGINES] = {NULL};
    int64_t n = 0;
    cudnnStatus_t rc = CUDNN_STATUS_SUCCESS;

    for (int i = 0; i < ENGINES && rc == CUDNN_STATUS_SUCCESS; i++)
        rc = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]);
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ENGINES,
                                      &n, configs);
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = choose(plan, scratch, handle, configs, n < ENGINES ? n : ENGINES, w);
    for (int i = 0; i < ENGINES; i++)
        dnn_forget(&configs[i]);
    return rc;
}

static cudnnStatus_t search_by(desc *plan, int64_t *scratch, desc graph, cudnnHandle_t handle, cudnnBackendHeurMode_t mode, dnn_wanted w)
{
    const attribute list[] = {
        {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph},
        {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode},
    };
    desc heuristics = NULL;
    cudnnStatus_t rc = MAKE(&heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, list);

    if (rc == CUDNN_STATUS_SUCCESS)
        rc = list_and_choose(plan, scratch, handle, heuristics, w);
    dnn_forget(&heuristics);
    return rc;
}

cudnnStatus_t dnn_plan(desc *plan, int64_t *scratch, desc graph, cudnnHandle_t handle, dnn_wanted wanted)
{
    cudnnStatus_t rc = search_by(plan, scratch, graph, handle, CUDNN_HEUR_MODE_A, wanted);

    return rc == CUDNN_STATUS_SUCCESS ? rc : search_by(plan, scratch, graph, handle, CUDNN_HEUR_MODE_FALLBACK, wanted);
}

/* ---- running ---- */

/* A pack of pointers is made in each run: the plan's scratch is not known when a call is prepared. */
cudnnStatus_t dnn_execute(cudnnHandle_t handle, desc plan, const int64_t ids[], const void *const places[], int64_t n, void *scratch)
{
    const attribute list[] = {
        {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids},
        {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, places},
        {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch},
    };
    desc pack = NULL;
    cudnnStatus_t rc = MAKE(&pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, list);

    if (rc == CUDNN_STATUS_SUCCESS)
        rc = cudnnBackendExecute(handle, plan, pack);
    dnn_forget(&pack);
    return rc;
}

int dnn_took(cudnnStatus_t rc)
{
    char why[160] = "";

    if (rc == CUDNN_STATUS_SUCCESS)
        return 0;
    cudnnGetLastErrorString(why, sizeof why);
    return cuda_took("cuDNN", why[0] ? why : cudnnGetErrorString(rc));
}
