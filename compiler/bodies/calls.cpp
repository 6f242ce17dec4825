// Calls of kernels, one after another. A kernel takes places and whole numbers, and at most two more numbers at its end;
// on x86-64 all that is not a float or double goes the same way, whatever its type.

#include <Python.h>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

constexpr size_t MOST = 256, STEP = 8;  // arguments: so many at most, and more than a kernel takes do no harm
enum Ending : int64_t { NONE, FLOATS, DOUBLES };

template <typename> using Argument = int64_t;

template <size_t... I, typename... Number>
void given(int64_t address, const int64_t* a, std::index_sequence<I...>, Number... last) {
    reinterpret_cast<void (*)(Argument<std::integral_constant<size_t, I>>..., Number...)>(address)(a[I]..., last...);
}

template <size_t N>
void called(int64_t address, const int64_t* a, int64_t ending, double beta, double alpha) {
    constexpr auto all = std::make_index_sequence<N>();
    if (ending == NONE) given(address, a, all);
    else if (ending == FLOATS) given(address, a, all, static_cast<float>(beta), static_cast<float>(alpha));
    else given(address, a, all, beta, alpha);
}

using Called = void (*)(int64_t, const int64_t*, int64_t, double, double);

template <size_t... N>
Called with(size_t count, std::index_sequence<N...>) {
    static constexpr Called ways[] = {called<N * STEP>...};
    return ways[(count + STEP - 1) / STEP];
}

}  // namespace

// program: how many calls there are; of each the address, how many arguments, and which numbers are at the end; of each
// argument the tensor and the bytes from where that begins, or -1 and a whole number; then the two numbers at the end.
void kernel(const int64_t* program, PyObject* tensors, void* (*place)(PyObject*)) {
    std::vector<char*> at(PyTuple_GET_SIZE(tensors));
    for (size_t i = 0; i < at.size(); ++i) at[i] = static_cast<char*>(place(PyTuple_GET_ITEM(tensors, i)));
    int64_t arguments[MOST];
    for (int64_t left = *program++; left; --left) {
        const int64_t address = program[0], count = program[1], ending = program[2];
        program += 3;
        for (int64_t i = 0; i < count; ++i, program += 2)
            arguments[i] = program[0] < 0 ? program[1] : reinterpret_cast<int64_t>(at[program[0]] + program[1]);
        const double* last = reinterpret_cast<const double*>(program);
        with(count, std::make_index_sequence<MOST / STEP + 1>())(address, arguments, ending, last[0], last[1]);
        program += 2;
    }
}
