/* PTX's text as instructions: registers become numbers, constants registers that hold them, symbols their addresses. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "tests/trainer/nn/cuda/ptx/ptx.h"

namespace ptx {

namespace {

struct token {
    std::string text;
    int line;
};
using statement = std::vector<token>;

/* Words, and signs alone; what is behind // is none. A word holds all that a name, a number or an instruction's may. */
std::vector<token> tokens_of(const std::vector<std::string> &lines)
{
    std::vector<token> out;
    int line = 0;

    for (const std::string &text : lines) {
        line++;
        for (size_t i = 0; i < text.size();) {
            if (text.compare(i, 2, "//") == 0)
                break;
            size_t n = i;
            for (bool pair; n < text.size() && ((pair = text.compare(n, 2, "::") == 0) || isalnum((unsigned char)text[n]) ||
                                                strchr("_$%.", text[n]));)
                n += pair ? 2 : 1;
            if (n > i)
                out.push_back({text.substr(i, n - i), line});
            else if (!isspace((unsigned char)text[i]))
                out.push_back({text.substr(n++, 1), line});
            i = n > i ? n : i + 1;
        }
    }
    return out;
}

size_t bytes_of_type(const std::string &type)
{
    const size_t digits = type.find_first_of("0123456789");

    return digits == std::string::npos ? 1 : (size_t)atoi(type.c_str() + digits) / 8;
}

std::vector<std::string> split(const std::string &text, char by)
{
    std::vector<std::string> out;
    std::stringstream in(text);
    std::string part;

    while (std::getline(in, part, by))
        out.push_back(part);
    return out;
}

bool has(const std::vector<std::string> &words, const char *word)
{
    for (const std::string &w : words)
        if (w == word)
            return true;
    return false;
}

class reader
{
    std::shared_ptr<const std::vector<std::string>> lines;
    std::vector<token> all;
    size_t at = 0;
    std::map<std::string, uint64_t> globals, shareds, sizes; /* of the file: addresses; sizes of shared ones */
    std::map<std::string, std::unique_ptr<kernel>> *into;

    /* Of the kernel that is being read. */
    kernel *k = nullptr;
    std::map<std::string, int> numbers; /* of registers */
    std::map<std::string, size_t> offsets, labels;
    std::map<std::string, uint64_t> places; /* of its shared and local memory */
    std::map<uint64_t, int> known;          /* constants */

    [[noreturn]] void stop(const std::string &why) const
    {
        fprintf(stderr, "ptx: %s: %s\n", why.c_str(), at < all.size() ? (*lines)[(size_t)all[at].line - 1].c_str() : "its end");
        abort();
    }
    const std::string &word() const
    {
        if (at >= all.size())
            stop("the file is cut short");
        return all[at].text;
    }
    std::string take() { return word(), all[at++].text; }
    bool takes(const char *text) { return at < all.size() && all[at].text == text ? at++, true : false; }
    void want(const char *text)
    {
        if (!takes(text))
            stop(std::string("wants ") + text);
    }

    /* ---- variables ---- */

    struct variable {
        std::string name, type;
        size_t align, bytes;
    };

    /* .align N .TYPE NAME[COUNT] */
    variable take_variable()
    {
        variable v{"", "", 0, 0};

        for (; word()[0] == '.'; at++) {
            if (word() == ".align")
                v.align = (size_t)atoi(all[++at].text.c_str());
            else if (strchr("busf", word()[1]) && isdigit((unsigned char)word().back()))
                v.type = word();
        }
        v.name = take();
        v.bytes = bytes_of_type(v.type);
        v.align = v.align ? v.align : v.bytes;
        if (takes("[")) {
            v.bytes *= (size_t)atoll(take().c_str());
            want("]");
        }
        return v;
    }

    /* The place lies at a multiple of what was asked for and of no more, so that who counts on more is seen. */
    static size_t place(size_t *used, const variable &v)
    {
        size_t to = (*used + v.align - 1) / v.align * v.align;

        to += to % (2 * v.align) ? 0 : v.align;
        *used = to + v.bytes;
        return to;
    }

    void take_shared(std::map<std::string, uint64_t> *names, size_t *used)
    {
        const variable v = take_variable();

        (*names)[v.name] = place(used, v);
        want(";");
    }

    /* A table that lives as long as the process. */
    void take_global()
    {
        const variable v = take_variable();
        unsigned char *mem = (unsigned char *)aligned_alloc(256, (v.bytes + 255) / 256 * 256);
        const size_t each = bytes_of_type(v.type);

        memset(mem, 0, v.bytes);
        globals[v.name] = (uint64_t)mem;
        if (takes("=")) {
            want("{");
            for (size_t i = 0; !takes("}"); takes(","), i++) {
                const uint64_t value = strtoull(take().c_str(), nullptr, 0);
                memcpy(mem + i * each, &value, each);
            }
        }
        want(";");
    }

    /* ---- operands ---- */

    int new_register() { return k->registers++; }

    int constant(uint64_t value)
    {
        const auto found = known.find(value);

        if (found != known.end())
            return found->second;
        k->constants.push_back({new_register(), value});
        return known[value] = k->constants.back().first;
    }

    bool number(const std::string &text, uint64_t *out) const
    {
        if (text.compare(0, 2, "0f") == 0 || text.compare(0, 2, "0F") == 0 || text.compare(0, 2, "0d") == 0 ||
            text.compare(0, 2, "0D") == 0)
            *out = strtoull(text.c_str() + 2, nullptr, 16);
        else if (isdigit((unsigned char)text[0]))
            *out = strtoull(text.c_str(), nullptr, 0);
        else
            return false;
        return true;
    }

    bool symbol(const std::string &name, uint64_t *out) const
    {
        const auto p = places.find(name), s = shareds.find(name), g = globals.find(name);

        if (p != places.end())
            *out = p->second;
        else if (s != shareds.end())
            *out = s->second;
        else if (g != globals.end())
            *out = g->second;
        else
            return false;
        return true;
    }

    int special(const std::string &name) const
    {
        static const char *const AXES = "xyz";
        const size_t dot = name.find('.');
        const char *axis = dot == std::string::npos ? nullptr : strchr(AXES, name[dot + 1]);
        const int i = axis ? (int)(axis - AXES) : 0;

        if (name.compare(0, 5, "%tid.") == 0)
            return k->tid[i];
        if (name.compare(0, 6, "%ntid.") == 0)
            return k->ntid[i];
        if (name.compare(0, 7, "%ctaid.") == 0)
            return k->ctaid[i];
        if (name.compare(0, 8, "%nctaid.") == 0)
            return k->nctaid[i];
        return name == "%laneid" ? k->laneid : -1;
    }

    /* A register, a constant or a symbol's address. */
    int take_value()
    {
        const bool minus = takes("-");
        const std::string text = take();
        const auto found = numbers.find(text);
        uint64_t value;

        if (found != numbers.end())
            return found->second;
        if (text == "_")
            return -1;
        if (number(text, &value) || symbol(text, &value))
            return constant(minus ? 0 - value : value);
        if (offsets.count(text))
            return constant(PARAM_AT + offsets[text]);
        if (special(text) >= 0)
            return special(text);
        at--;
        stop("an operand that is not known");
    }

    /* A value, {several} or one|another. */
    std::vector<int> take_operand()
    {
        std::vector<int> out;

        if (takes("{")) {
            do
                out.push_back(take_value());
            while (takes(","));
            want("}");
            return out;
        }
        out.push_back(take_value());
        if (takes("|"))
            out.push_back(take_value());
        return out;
    }

    /* [value + offset] */
    int take_address(instruction *i)
    {
        int from;

        want("[");
        from = take_value();
        if (takes("+")) {
            const bool minus = takes("-");
            const int64_t by = strtoll(take().c_str(), nullptr, 0);
            i->offset = minus ? -by : by;
        }
        want("]");
        return from;
    }

    /* The name in the brackets that come next but for the registers before them. */
    std::string parameter_asked() const
    {
        size_t n = at;

        while (n + 1 < all.size() && all[n].text != "[" && all[n].text != ";")
            n++;
        return all[n + 1].text;
    }

    /* ---- instructions ---- */

    static space space_of(const std::vector<std::string> &words)
    {
        return has(words, "global")   ? GLOBAL
               : has(words, "shared") ? SHARED
               : has(words, "local")  ? LOCAL
               : has(words, "param")  ? PARAM
               : has(words, "const")  ? CONST
                                      : GENERIC;
    }

    static int vector_of(const std::vector<std::string> &words) { return has(words, "v4") ? 4 : has(words, "v2") ? 2 : 1; }

    /* What goes to and from a function is UNKNOWN: functions are not played. */
    void read_access(instruction *i, const std::vector<std::string> &words, bool load)
    {
        i->where = space_of(words);
        if (i->where == PARAM && !load)
            return;
        if (i->where == PARAM && !offsets.count(parameter_asked()) && !numbers.count(parameter_asked()))
            return;
        i->is = load ? LOAD : STORE;
        i->bytes = (int)bytes_of_type(words.back());
        i->sign = words.back()[0] == 's';
        i->count = vector_of(words);
        if (load)
            i->to = take_operand(), want(","), i->from = {take_address(i)};
        else
            i->from = {take_address(i)}, want(","), i->to = take_operand();
        if ((int)i->to.size() != i->count)
            stop("another number of registers than elements");
    }

    /* setp.CMP[.BOOL].TYPE p[|q], a, b[, c]: only the plain form, and with one result. */
    void read_setp(instruction *i, const std::vector<std::string> &words)
    {
        i->is = EACH_LANE;
        i->run = words.size() == 3 ? op_of(words[1] + "." + words[2]) : nullptr;
        read_operands(i);
    }

    void read_operands(instruction *i)
    {
        i->to = take_operand();
        while (takes(","))
            for (int from : take_operand())
                i->from.push_back(from);
    }

    /* What all lanes do together. */
    bool read_together(instruction *i, const std::string &op, const std::vector<std::string> &words)
    {
        if (op == "bar.sync" || op == "barrier.sync.aligned" || op == "barrier.sync") {
            i->is = BARRIER;
            if (take() != "0" || word() != ";")
                stop("only barrier 0 of all threads is known");
        } else if (op == "bar.warp.sync") {
            i->is = WARP_BARRIER;
            i->from = take_operand();
        } else if (words[0] == "shfl" && words[1] == "sync" && words[3] == "b32") {
            i->is = SHUFFLE;
            i->kind = words[2][0];
            read_operands(i);
        } else if (op == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" || op == "mma.sync.aligned.m16n8k8.row.col.f32."
                                                                                        "bf16.bf16.f32") {
            i->is = MMA;
            i->count = words[3] == "m16n8k16" ? 2 : 1;
            read_operands(i);
            if (i->to.size() != 4 || i->from.size() != (i->count == 2 ? 10u : 7u))
                stop("another number of registers than the manual has");
        } else if (words[0] == "ldmatrix") {
            read_matrices(i, words);
        } else
            return false;
        return true;
    }

    void read_matrices(instruction *i, const std::vector<std::string> &words)
    {
        i->is = MATRICES;
        i->count = has(words, "x4") ? 4 : has(words, "x2") ? 2 : 1;
        i->turned = has(words, "trans");
        i->where = SHARED;
        if (!has(words, "sync") || !has(words, "aligned") || !has(words, "m8n8") || !has(words, "b16") || !has(words, "shared"))
            stop("a form of ldmatrix that is not known");
        i->to = take_operand();
        want(",");
        i->from = {take_address(i)};
        if ((int)i->to.size() != i->count)
            stop("another number of registers than matrices");
    }

    bool read_copy(instruction *i, const std::string &op)
    {
        if (op == "cp.async.commit_group") {
            i->is = COPY_GROUP;
        } else if (op == "cp.async.wait_group") {
            i->is = COPY_WAIT;
            i->offset = atoi(take().c_str());
        } else if (op == "cp.async.cg.shared.global") {
            i->is = COPY;
            const int to = take_address(i);
            if (i->offset)
                stop("an offset of a copy");
            want(",");
            const int from = take_address(i);
            want(",");
            if (take() != "16")
                stop("cp.async.cg copies 16 bytes");
            i->from = {to, from, takes(",") ? take_value() : constant(16)};
        } else
            return false;
        return true;
    }

    void want_ones()
    {
        for (int k = 0; k < 2; k++)
            if (want(","), take() != "1")
                stop("a factor that is not taken as it is");
    }

    /* wgmma.mma_async.sync.aligned.m64nNk16.f32.bf16.bf16 {sum}, {left}, right, add, 1, 1, turned */
    void read_product(instruction *i, const std::vector<std::string> &words)
    {
        i->is = PRODUCT;
        k->products = true;
        i->count = words[4].compare(0, 4, "m64n") == 0 ? atoi(words[4].c_str() + 4) : 0;
        if (words[4] != "m64n" + std::to_string(i->count) + "k16" || i->count % 8 || i->count < 8 || i->count > 256)
            stop("a shape that there is not");
        i->to = take_operand(), want(",");
        i->from = take_operand(), want(",");
        if ((int)i->to.size() != i->count / 2 || i->from.size() != 4)
            stop("another number of registers than the manual has");
        i->from.push_back(take_value()), want(",");
        i->from.push_back(take_value());
        want_ones();
        want(",");
        i->turned = take() == "1";
    }

    bool read_group(instruction *i, const std::string &op, const std::vector<std::string> &words)
    {
        if (op.compare(0, 29, "wgmma.mma_async.sync.aligned.") == 0 && op.size() > 13 && op.substr(op.size() - 14) == ".f32.bf16.bf16") {
            read_product(i, words);
        } else if (op == "wgmma.fence.sync.aligned") {
            i->is = PRODUCT_FENCE;
        } else if (op == "wgmma.commit_group.sync.aligned") {
            i->is = PRODUCT_GROUP;
        } else if (op == "wgmma.wait_group.sync.aligned") {
            i->is = PRODUCT_WAIT;
            i->offset = atoi(take().c_str());
        } else if (op == "fence.proxy.async.shared::cta") {
            i->is = PROXY_FENCE;
        } else if (op == "setmaxnreg.inc.sync.aligned.u32" || op == "setmaxnreg.dec.sync.aligned.u32") {
            i->is = REGISTERS;
            i->offset = atoi(take().c_str());
            if (i->offset % 8 || i->offset < 24 || i->offset > 256)
                stop("a number of registers that there is not");
        } else
            return false;
        return true;
    }

    bool read_signal(instruction *i, const std::string &op)
    {
        if (op == "mbarrier.init.shared.b64") {
            i->is = SIGNAL_BEGIN;
            i->from = {take_address(i)}, want(",");
            i->from.push_back(take_value());
        } else if (op == "mbarrier.arrive.shared.b64") {
            i->is = SIGNAL_GIVE;
            i->to = {take_value()}, want(",");
            i->from = {take_address(i)};
        } else if (op == "mbarrier.try_wait.parity.shared.b64") {
            i->is = SIGNAL_TEST;
            i->to = {take_value()}, want(",");
            i->from = {take_address(i)}, want(",");
            i->from.push_back(take_value());
        } else
            return false;
        return true;
    }

    /* Moves between a register and its halves. */
    void read_move(instruction *i, const std::string &op, const std::vector<std::string> &words)
    {
        i->to = take_operand();
        want(",");
        i->from = take_operand();
        i->is = i->to.size() > 1 ? SPLIT : i->from.size() > 1 ? JOIN : EACH_LANE;
        i->bytes = (int)(bytes_of_type(words.back()) / std::max(i->to.size(), i->from.size()));
        i->run = op_of(op);
    }

    /* Addresses between spaces: what is shared or local has a range of its own among generic ones. */
    void read_cvta(instruction *i, const std::vector<std::string> &words)
    {
        const bool down = has(words, "to");
        const space where = space_of(words);
        const uint64_t base = where == SHARED ? SHARED_AT : where == LOCAL ? LOCAL_AT : 0;

        i->is = EACH_LANE;
        i->run = op_of(down ? "sub.u64" : "add.u64");
        read_operands(i);
        i->from.push_back(constant(base));
    }

    void read_branch(instruction *i, std::vector<std::pair<size_t, std::string>> *targets)
    {
        i->is = BRANCH;
        targets->push_back({k->code.size(), take()});
    }

    /* The first kernel of a name may be read by another file, too; a form that is not known is no error until it is met. */
    void read_one(std::vector<std::pair<size_t, std::string>> *targets)
    {
        instruction i;

        i.line = all[at].line;
        if (takes("@")) {
            i.unless = takes("!");
            i.guard = take_value();
        }
        const std::string op = take();
        const std::vector<std::string> words = split(op, '.');
        if (words[0] == "ld" || words[0] == "st")
            read_access(&i, words, words[0] == "ld");
        else if (words[0] == "setp")
            read_setp(&i, words);
        else if (words[0] == "bra")
            read_branch(&i, targets);
        else if (words[0] == "ret" || words[0] == "exit")
            i.is = RETURN;
        else if (words[0] == "cvta")
            read_cvta(&i, words);
        else if (words[0] == "mov")
            read_move(&i, op, words);
        else if (op == "bfi.b32") {
            i.is = FIELD;
            read_operands(&i);
        } else if (!read_together(&i, op, words) && !read_copy(&i, op) && !read_group(&i, op, words) && !read_signal(&i, op) && op_of(op)) {
            i.is = EACH_LANE;
            i.run = op_of(op);
            read_operands(&i);
        }
        if (i.is == EACH_LANE && (!i.run || i.to.size() != 1))
            i.is = UNKNOWN;
        while (!takes(";"))
            at++;
        k->code.push_back(i);
    }

    /* .reg .TYPE %name<COUNT>, %other; */
    void read_registers()
    {
        take(); /* the type */
        do {
            const std::string name = take();
            if (takes("<")) {
                const int count = atoi(take().c_str());
                want(">");
                for (int n = 0; n < count; n++)
                    numbers[name + std::to_string(n)] = new_register();
            } else
                numbers[name] = new_register();
        } while (takes(","));
        want(";");
    }

    void read_body()
    {
        std::vector<std::pair<size_t, std::string>> targets;

        want("{");
        for (int depth = 1; depth > 0;) {
            if (takes("{"))
                depth++;
            else if (takes("}"))
                depth--;
            else if (takes(".reg"))
                read_registers();
            else if (takes(".shared"))
                take_shared(&places, &k->shared_bytes);
            else if (takes(".local"))
                take_shared(&places, &k->local_bytes);
            else if (word()[0] == '.') /* .pragma, .loc */
                while (!takes(";"))
                    at++;
            else if (at + 1 < all.size() && all[at + 1].text == ":")
                labels[word()] = k->code.size(), at += 2;
            else
                read_one(&targets);
        }
        for (const auto &t : targets) {
            if (!labels.count(t.second))
                stop("a branch to nowhere: " + t.second);
            k->code[t.first].offset = (int64_t)labels[t.second];
        }
        k->code.push_back(instruction{});
        k->code.back().is = RETURN;
    }

    void read_parameters()
    {
        want("(");
        while (!takes(")")) {
            want(".param");
            const variable v = take_variable();
            const size_t to = (k->parameter_bytes + v.align - 1) / v.align * v.align;
            k->parameters.push_back({to, v.bytes});
            offsets[v.name] = to;
            k->parameter_bytes = to + v.bytes;
            takes(",");
        }
    }

    void read_kernel()
    {
        std::unique_ptr<kernel> made(new kernel);

        k = made.get();
        numbers.clear(), offsets.clear(), labels.clear(), places.clear(), known.clear();
        k->name = take();
        k->text = lines;
        for (int i = 0; i < 3; i++) {
            k->tid[i] = new_register();
            k->ntid[i] = new_register();
            k->ctaid[i] = new_register();
            k->nctaid[i] = new_register();
        }
        k->laneid = new_register();
        k->shared_bytes = shared_of_file;
        read_parameters();
        while (word() != "{")
            if (takes(".maxntid"))
                k->most_threads = (unsigned)atoi(take().c_str());
            else
                at++;
        read_body();
        (*into)[k->name] = std::move(made);
    }

    size_t shared_of_file = 0;

    /* A function that kernels call: known to be there, and not played. */
    void skip_function()
    {
        int depth = 0;

        while (word() != "{" && word() != ";")
            at++;
        if (takes(";"))
            return;
        do {
            depth += word() == "{" ? 1 : word() == "}" ? -1 : 0;
            at++;
        } while (depth > 0);
    }

  public:
    reader(const std::string &text, std::map<std::string, std::unique_ptr<kernel>> *into_)
        : lines(new std::vector<std::string>(split(text, '\n'))), all(tokens_of(*lines)), into(into_)
    {
    }

    void read()
    {
        while (at < all.size()) {
            if (takes(".entry"))
                read_kernel();
            else if (takes(".func"))
                skip_function();
            else if (takes(".shared"))
                take_shared(&shareds, &shared_of_file);
            else if (takes(".global") || takes(".const"))
                take_global();
            else
                at++;
        }
    }
};

} // namespace

void read_text(const std::string &text, std::map<std::string, std::unique_ptr<kernel>> *into) { reader(text, into).read(); }

} // namespace ptx
