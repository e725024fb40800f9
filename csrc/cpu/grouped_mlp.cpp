#include "cpu/grouped_mlp.h"

#include <algorithm>

#include "core/training_step.h"
#include "cpu/padded_rows.h"
#include "cpu/parallel_rows.h"
#include "cpu/training_kernels.h"

namespace vsae {

namespace {

constexpr long kWorthSharing = 1 << 21;  // multiply-adds; starting a thread costs some tens of microseconds

// What one hidden layer of one network keeps, within `saved`.
struct Saved {
    float* unit;     // [N, stride], normalised values
    float* out;      // [N, stride], activated
    float* inverse;  // [stride]
    float* batch;    // 1 where the batch's own statistics were used
};

long layer_floats(int n_rows, int width) { return (2L * n_rows + 1) * row_stride(width) + kLine; }

std::vector<Saved> saved_of(const GroupedMlp& op, float* saved, int group) {
    saved += grouped_mlp_saved_floats(op.n_rows, 1, op.sizes) * group;
    std::vector<Saved> layers;
    for (std::size_t l = 1; l + 1 < op.sizes.size(); ++l) {
        const long rows = static_cast<long>(op.n_rows) * row_stride(op.sizes[l]);
        layers.push_back({saved, saved + rows, saved + 2 * rows, saved + 2 * rows + row_stride(op.sizes[l])});
        saved += layer_floats(op.n_rows, op.sizes[l]);
    }
    return layers;
}

// Padded copies of one network's parameters and input.
class Network {
   public:
    Network(const GroupedMlp& op, int group, float* saved, const TrainingKernels& kernels)
        : op_(op), group_(group), kernels_(kernels), layers_(saved_of(op, saved, group)), x_(op.n_rows, op.sizes[0]) {
        for (long r = 0; r < op.n_rows; ++r)
            if (op.mask[r * op.n_groups + group] > 0)
                std::copy_n(op.x + (r * op.n_groups + group) * op.sizes[0], op.sizes[0], x_.data() + r * x_.stride());
        for (std::size_t l = 0; l < op.weight.size(); ++l) {
            const int in = op.sizes[l], out = op.sizes[l + 1];
            weight_.emplace_back(op.weight[l] + static_cast<long>(group) * in * out, in, out, out);
        }
    }

    void forward(float* out) {
        const float* h = x_.data();
        int stride = x_.stride();
        for (std::size_t l = 0; l < weight_.size(); ++l) {
            const bool head = l == layers_.size();
            const int in = op_.sizes[l], width = op_.sizes[l + 1];
            PaddedRows head_out(head ? op_.n_rows : 0, width);
            float* to = head ? head_out.data() : layers_[l].unit;
            const PaddedRows bias = vector(op_.bias[l], width);
            kernels_.product({h, stride, 1, weight_[l].data(), weight_[l].stride(), bias.data(), to, row_stride(width),
                              op_.n_rows, whole_lines(width), in, false});
            if (head) {
                head_out.write(out + static_cast<long>(group_) * width, static_cast<long>(op_.n_groups) * width);
                break;
            }
            PaddedRows gamma = vector(op_.gamma[l], width), beta = vector(op_.beta[l], width);
            PaddedRows mean = vector(op_.running_mean[l], width), variance = vector(op_.running_var[l], width);
            Normalisation normalisation = describe(l, gamma.data(), beta.data());
            normalisation.running_mean = mean.data();
            normalisation.running_var = variance.data();
            PaddedRows centre(1, width);
            normalisation.mean = centre.data();
            kernels_.normalise(normalisation);
            layers_[l].batch[0] = normalisation.from_batch ? 1.0f : 0.0f;
            if (op_.training) {
                mean.write(op_.running_mean[l] + static_cast<long>(group_) * width, width);
                variance.write(op_.running_var[l] + static_cast<long>(group_) * width, width);
            }
            h = layers_[l].out;
            stride = row_stride(width);
        }
    }

    void backward(const float* out_gradient, const GroupedMlpGradients& gradients) {
        const int n_out = op_.sizes.back();
        PaddedRows gradient(out_gradient + static_cast<long>(group_) * n_out, op_.n_rows, n_out,
                            static_cast<long>(op_.n_groups) * n_out);
        for (std::size_t l = weight_.size(); l-- > 0;) {
            const int in = op_.sizes[l], width = op_.sizes[l + 1], stride = row_stride(width);
            if (l < layers_.size()) {
                const PaddedRows gamma = vector(op_.gamma[l], width), beta = vector(op_.beta[l], width);
                PaddedRows of_gamma(1, width), of_beta(1, width);
                kernels_.normalise_backward(
                    {describe(l, gamma.data(), beta.data()), gradient.data(), of_gamma.data(), of_beta.data()});
                of_gamma.write(gradients.gamma[l] + static_cast<long>(group_) * width, width);
                of_beta.write(gradients.beta[l] + static_cast<long>(group_) * width, width);
            }
            const float* below = l ? layers_[l - 1].out : x_.data();
            const int below_stride = l ? row_stride(in) : x_.stride();
            PaddedRows of_weight(in, width), of_bias(1, width), down(op_.n_rows, in);
            kernels_.product({below, 1, below_stride, gradient.data(), stride, nullptr, of_weight.data(), stride, in,
                              whole_lines(width), op_.n_rows, false});
            of_weight.write(gradients.weight[l] + static_cast<long>(group_) * in * width, width);
            // The batch's mean takes the bias away again: where it was used the gradient is zero, not its rounding.
            if (l == layers_.size() || layers_[l].batch[0] == 0)
                kernels_.column_sum(gradient.data(), op_.n_rows, whole_lines(width), stride, of_bias.data());
            of_bias.write(gradients.bias[l] + static_cast<long>(group_) * width, width);
            PaddedRows transposed(width, in);
            kernels_.transpose(weight_[l].data(), stride, in, width, transposed.data(), transposed.stride());
            kernels_.product({gradient.data(), stride, 1, transposed.data(), transposed.stride(), nullptr, down.data(),
                              down.stride(), op_.n_rows, whole_lines(in), width, false});
            gradient = std::move(down);
        }
        for (long r = 0; r < op_.n_rows; ++r) {
            float* to = gradients.x + (r * op_.n_groups + group_) * op_.sizes[0];
            if (op_.mask[r * op_.n_groups + group_] > 0)
                std::copy_n(gradient.data() + r * gradient.stride(), op_.sizes[0], to);
            else
                std::fill_n(to, op_.sizes[0], 0.0f);
        }
    }

   private:
    const GroupedMlp& op_;
    int group_;
    const TrainingKernels& kernels_;
    std::vector<Saved> layers_;
    PaddedRows x_;
    std::vector<PaddedRows> weight_;

    PaddedRows vector(const float* of_groups, int width) const {
        return {of_groups + static_cast<long>(group_) * width, 1, width, width};
    }

    Normalisation describe(std::size_t l, const float* gamma, const float* beta) const {
        const int width = op_.sizes[l + 1];
        return {op_.n_rows,
                whole_lines(width),
                row_stride(width),
                layers_[l].unit,
                layers_[l].out,
                op_.mask + group_,
                op_.n_groups,
                gamma,
                beta,
                nullptr,
                nullptr,
                nullptr,
                layers_[l].inverse,
                op_.slope,
                op_.training,
                layers_[l].batch[0] > 0};
    }
};

template <class Work>
void for_each_group(const GroupedMlp& op, int n_threads, Work work) {
    long products = 0;
    for (std::size_t l = 0; l + 1 < op.sizes.size(); ++l) products += static_cast<long>(op.sizes[l]) * op.sizes[l + 1];
    if (products * op.n_rows * op.n_groups < kWorthSharing) n_threads = 1;
    parallel_rows(op.n_groups, 1, n_threads, [&](RowTasks& tasks) {
        for (long group, end; tasks.next(&group, &end);) work(static_cast<int>(group));
    });
}

}  // namespace

long grouped_mlp_saved_floats(int n_rows, int n_groups, const std::vector<int>& sizes) {
    long floats = 0;
    for (std::size_t l = 1; l + 1 < sizes.size(); ++l) floats += layer_floats(n_rows, sizes[l]);
    return floats * n_groups;
}

void grouped_mlp(const GroupedMlp& op, float* out, float* saved, int n_threads, CpuLevel level) {
    const TrainingKernels& kernels = training_kernels_for(level);
    for_each_group(op, n_threads, [&](int group) { Network(op, group, saved, kernels).forward(out); });
}

void grouped_mlp_backward(const GroupedMlp& op, const float* out_gradient, float* saved,
                          const GroupedMlpGradients& gradients, int n_threads, CpuLevel level) {
    const TrainingKernels& kernels = training_kernels_for(level);
    for_each_group(op, n_threads,
                   [&](int group) { Network(op, group, saved, kernels).backward(out_gradient, gradients); });
}

}  // namespace vsae
