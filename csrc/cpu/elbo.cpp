#include "cpu/elbo.h"

#include <algorithm>
#include <cmath>

#include "core/importance_impute.h"
#include "core/training_step.h"
#include "cpu/padded_rows.h"
#include "cpu/parallel_rows.h"
#include "cpu/training_kernels.h"

namespace vsae {

namespace {

constexpr int kRowsPerTask = 64;         // sums over rows are made task by task, so that threads change no bit
constexpr long kWorthSharing = 1 << 17;  // terms; starting a thread costs some tens of microseconds

// What does not depend on the row.
struct Constants {
    PaddedRows log_scale, precision, numerical, attribute;

    explicit Constants(const Elbo& op)
        : log_scale(op.log_scale, 1, op.attribute_start.back(), 0),
          precision(1, op.attribute_start.back()),
          numerical(1, op.attribute_start.back()),
          attribute(1, static_cast<int>(op.attribute_kind.size())) {
        for (std::size_t a = 0; a < op.attribute_kind.size(); ++a) {
            attribute.data()[a] = 1.0f;
            if (op.attribute_kind[a] != kNumerical) continue;
            for (int c = op.attribute_start[a]; c < op.attribute_start[a + 1]; ++c) {
                numerical.data()[c] = 1.0f;
                precision.data()[c] = std::exp(-2.0f * op.log_scale[c]);
            }
        }
    }
};

// One row's bound and its gradients.
class RowBound {
   public:
    RowBound(const Elbo& op, const Constants& constants, const TrainingKernels& kernels)
        : op_(op),
          constants_(constants),
          kernels_(kernels),
          n_columns_(op.attribute_start.back()),
          n_attributes_(static_cast<int>(op.attribute_kind.size())),
          output_(op.n_samples, n_columns_),
          logits_(op.n_samples, n_attributes_),
          noise_(op.n_samples, op.n_latent),
          z_(op.n_samples, op.n_latent),
          output_gradient_(op.n_samples, n_columns_),
          scale_gradient_(op.n_samples, n_columns_),
          mask_gradient_(op.n_samples, n_attributes_),
          target_(1, n_columns_),
          variance_(1, n_columns_),
          column_weight_(1, n_columns_),
          weight_(1, n_attributes_),
          mask_(1, n_attributes_),
          mean_(1, op.n_latent),
          log_variance_(1, op.n_latent),
          scale_total_(1, n_columns_),
          scratch_(AlignedBuffer::zeros(log_weights_scratch(n_columns_, n_attributes_))),
          log_weight_(AlignedBuffer::zeros(op.n_samples)),
          factor_(AlignedBuffer::zeros(op.n_samples)) {}

    // Returns the bound of the row; gradients are multiplied by `upstream`.
    double run(long row, double upstream = 1) {
        const long n = op_.n_rows, d = n_columns_, m = n_attributes_, l = op_.n_latent;
        output_.read(op_.output + row * d, n * d);
        logits_.read(op_.mask_logits + row * m, n * m);
        target_.read(op_.target + row * d, d);
        if (op_.target_variance) variance_.read(op_.target_variance + row * d, d);
        weight_.read(op_.attribute_weight + row * m, m);
        mask_.read(op_.mask + row * m, m);
        mean_.read(op_.mean + row * l, l);
        log_variance_.read(op_.log_variance + row * l, l);
        for (int a = 0; a < n_attributes_; ++a)
            for (int c = op_.attribute_start[a]; c < op_.attribute_start[a + 1]; ++c) {
                column_weight_.data()[c] = weight_.data()[a];
                // What has no weight is not read: it may be NaN where unobserved.
                if (weight_.data()[a] == 0) target_.data()[c] = variance_.data()[c] = 0.0f;
            }
        if (op_.noise) {
            noise_.read(op_.noise + row * l, n * l);
            kernels_.draw_latents({op_.n_samples, 1, 0, 1, op_.n_latent, log_variance_.stride(), noise_.stride(),
                                   z_.stride(), mean_.data(), log_variance_.data(), noise_.data(), z_.data()});
        }
        double bound = 0;
        std::fill_n(scale_total_.data(), scale_total_.stride(), 0.0f);
        const RowBounds bounds{&bound, upstream, factor_.data(), scale_total_.data()};
        kernels_.log_weights({n_attributes_,
                              n_columns_,
                              op_.n_latent,
                              op_.n_samples,
                              1,
                              op_.attribute_start.data(),
                              op_.attribute_kind.data(),
                              constants_.log_scale.data(),
                              constants_.precision.data(),
                              constants_.numerical.data(),
                              constants_.attribute.data(),
                              target_.data(),
                              op_.target_variance ? variance_.data() : nullptr,
                              weight_.data(),
                              column_weight_.data(),
                              mask_.data(),
                              output_.data(),
                              logits_.data(),
                              z_.data(),
                              noise_.data(),
                              log_variance_.data(),
                              output_.stride(),
                              logits_.stride(),
                              log_variance_.stride(),
                              noise_.stride(),
                              z_.stride(),
                              op_.noise != nullptr,
                              log_weight_.data(),
                              output_gradient_.data(),
                              scale_gradient_.data(),
                              mask_gradient_.data(),
                              scratch_.data(),
                              0,
                              1,
                              &bounds});
        return op_.noise ? bound : bound - divergence();
    }

    // Adds to log_scale's gradient; writes the others.
    void backward(long row, float upstream, const ElboGradients& to, double* log_scale) {
        run(row, upstream);
        const long n = op_.n_rows, d = n_columns_, m = n_attributes_, l = op_.n_latent;
        std::fill_n(to.mean + row * l, l, 0.0f);
        std::fill_n(to.log_variance + row * l, l, 0.0f);
        for (long c = 0; c < d; ++c) log_scale[c] += static_cast<double>(scale_total_.data()[c]);
        for (long k = 0; k < op_.n_samples; ++k) {
            const float factor = factor_.data()[k];
            std::copy_n(output_gradient_.data() + k * output_.stride(), d, to.output + (k * n + row) * d);
            std::copy_n(mask_gradient_.data() + k * logits_.stride(), m, to.mask_logits + (k * n + row) * m);
            for (long i = 0; i < l; ++i) {
                const float z = z_.data()[k * z_.stride() + i];
                if (op_.noise) {
                    to.mean[row * l + i] -= factor * z;
                    to.log_variance[row * l + i] += factor * 0.5f * (1.0f - z * (z - mean_.data()[i]));
                } else {
                    to.mean[row * l + i] = -factor * mean_.data()[i];
                    to.log_variance[row * l + i] = factor * 0.5f * (1.0f - std::exp(log_variance_.data()[i]));
                }
            }
        }
    }

   private:
    const Elbo& op_;
    const Constants& constants_;
    const TrainingKernels& kernels_;
    int n_columns_, n_attributes_;
    PaddedRows output_, logits_, noise_, z_, output_gradient_, scale_gradient_, mask_gradient_;
    PaddedRows target_, variance_, column_weight_, weight_, mask_, mean_, log_variance_, scale_total_;
    AlignedBuffer scratch_, log_weight_, factor_;

    double divergence() const {
        double sum = 0;
        for (int i = 0; i < op_.n_latent; ++i) {
            const double mean = mean_.data()[i], log_variance = log_variance_.data()[i];
            sum += 0.5 * (mean * mean + std::exp(log_variance) - 1 - log_variance);
        }
        return sum;
    }
};

template <class Work>
void for_each_task(const Elbo& op, int n_threads, const TrainingKernels& kernels, Work work) {
    const Constants constants(op);
    const long terms = static_cast<long>(op.n_samples) * op.n_rows * op.attribute_start.back();
    parallel_rows(op.n_rows, kRowsPerTask, terms < kWorthSharing ? 1 : n_threads, [&](RowTasks& tasks) {
        RowBound bound(op, constants, kernels);
        for (long begin, end; tasks.next(&begin, &end);) work(bound, begin, end);
    });
}

}  // namespace

void elbo(const Elbo& op, float* bound, int n_threads, CpuLevel level) {
    for_each_task(op, n_threads, training_kernels_for(level), [&](RowBound& of_row, long begin, long end) {
        for (long row = begin; row < end; ++row) bound[row] = static_cast<float>(of_row.run(row));
    });
}

void elbo_backward(const Elbo& op, const float* bound_gradient, const ElboGradients& gradients, int n_threads,
                   CpuLevel level) {
    const int columns = op.attribute_start.back();
    const long n_tasks = (op.n_rows + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<double> log_scale(static_cast<std::size_t>(n_tasks * columns));
    for_each_task(op, n_threads, training_kernels_for(level), [&](RowBound& of_row, long begin, long end) {
        double* sum = log_scale.data() + begin / kRowsPerTask * columns;
        for (long row = begin; row < end; ++row) of_row.backward(row, bound_gradient[row], gradients, sum);
    });
    for (int c = 0; c < columns; ++c) {
        double sum = 0;
        for (long task = 0; task < n_tasks; ++task) sum += log_scale[static_cast<std::size_t>(task * columns + c)];
        gradients.log_scale[c] = static_cast<float>(sum);
    }
}

}  // namespace vsae
