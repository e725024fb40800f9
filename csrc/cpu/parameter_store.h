// Parameters of a network in one flat, padded run of memory, with gradients and Adam's moments beside them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/training_step.h"
#include "cpu/aligned_buffer.h"
#include "cpu/training_kernels.h"

namespace vsae {

// One torch tensor: `rows` x `columns` values (after transposing where torch keeps (out, in)), at `offset`.
struct ParameterSlot {
    long offset;
    int rows;
    int columns;
    bool transposed;
    bool trained;  // false: running statistics
};

class ParameterStore {
   public:
    long add(int rows, int columns, bool transposed, bool trained = true) {
        long& size = trained ? n_trained_ : n_fixed_;
        slots_.push_back({size, rows, columns, transposed, trained});
        size += static_cast<long>(rows) * row_stride(columns);
        return slots_.back().offset;
    }

    void allocate() {
        for (std::vector<float>* run : {&value_, &gradient_, &first_, &second_})
            run->assign(static_cast<std::size_t>(n_trained_ + kLine), 0.0f);
        fixed_.assign(static_cast<std::size_t>(n_fixed_ + kLine), 0.0f);
    }

    // Adam's step on `n` floats from `offset` on; the rule's addresses are ignored.
    void update(const TrainingKernels& kernels, AdamStep rule, long offset, long n) {
        rule.n = n;
        rule.parameter = value(offset);
        rule.gradient = gradient(offset);
        rule.first = aligned(first_) + offset;
        rule.second = aligned(second_) + offset;
        kernels.adam(rule);
    }

    long size() const { return n_trained_; }
    std::size_t n_slots() const { return slots_.size(); }
    float* value(long offset) { return aligned(value_) + offset; }
    float* gradient(long offset) { return aligned(gradient_) + offset; }
    float* fixed(long offset) { return aligned(fixed_) + offset; }

    void import(std::size_t slot, const float* tensor) {
        for_each(slot, [&](float& here, long there) { here = tensor[there]; });
    }
    void export_to(std::size_t slot, float* tensor) {
        for_each(slot, [&](float& here, long there) { tensor[there] = here; });
    }

    // Everything that training goes on from: parameters, Adam's moments and running statistics.
    long state_size() const { return 3 * n_trained_ + n_fixed_; }
    void export_state(float* out) {
        for (const auto& [run, size] : runs()) out = std::copy_n(run, size, out);
    }
    void import_state(const float* in) {
        for (const auto& [run, size] : runs()) {
            std::copy_n(in, size, run);
            in += size;
        }
    }

   private:
    std::vector<ParameterSlot> slots_;
    long n_trained_ = 0;
    long n_fixed_ = 0;
    std::vector<float> value_, gradient_, first_, second_, fixed_;

    static float* aligned(std::vector<float>& run) {
        const auto address = reinterpret_cast<std::uintptr_t>(run.data());
        return run.data() + (64 - address % 64) % 64 / sizeof(float);
    }

    std::array<std::pair<float*, long>, 4> runs() {
        return {{{value(0), n_trained_},
                 {aligned(first_), n_trained_},
                 {aligned(second_), n_trained_},
                 {fixed(0), n_fixed_}}};
    }

    template <class Visit>
    void for_each(std::size_t slot, Visit visit) {
        const ParameterSlot& s = slots_[slot];
        float* base = s.trained ? value(s.offset) : fixed(s.offset);
        for (int r = 0; r < s.rows; ++r)
            for (int c = 0; c < s.columns; ++c)
                visit(base[static_cast<long>(r) * row_stride(s.columns) + c],
                      s.transposed ? static_cast<long>(c) * s.rows + r : static_cast<long>(r) * s.columns + c);
    }
};

}  // namespace vsae
