#include "cpu/propose.h"

#include <algorithm>

#include "cpu/aligned_buffer.h"
#include "cpu/fill_unobserved.h"
#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr long kRowsPerTask = 96;  // whole tiles of the product; their activations fit the second-level cache

// Blocks of rows on one thread.
class Proposer {
   public:
    Proposer(const Propose& op, float* mean, float* scale, float* context)
        : op_(op),
          n_attributes_(static_cast<int>(op.own.size())),
          n_columns_(op.attribute_start.back()),
          latent_(op.latent_per_attribute),
          n_latent_(n_attributes_ * latent_),
          scratch_stride_(widest()),
          mean_(mean),
          scale_(scale),
          context_(context),
          in_(AlignedBuffer::zeros(kRowsPerTask * input_stride())),
          even_(kRowsPerTask * scratch_stride_),
          odd_(kRowsPerTask * scratch_stride_),
          hidden_(kRowsPerTask * scratch_stride_),
          out_(kRowsPerTask * scratch_stride_) {}

    void run(long begin, long end) {
        for (int p = 0; p < op_.n_proposals; ++p) run_collective(p, begin, end);
        for (int a = 0; a < n_attributes_; ++a) run_own(a, begin, end);
        const long of_row = static_cast<long>(op_.n_proposals) * n_latent_;
        op_.kernels.standard_deviations(scale_ + begin * of_row, (end - begin) * of_row);  // log-variances until now
    }

   private:
    const Propose& op_;
    const int n_attributes_, n_columns_, latent_, n_latent_;
    const long scratch_stride_;
    float* mean_;
    float* scale_;
    float* context_;
    AlignedBuffer in_, even_, odd_, hidden_, out_;

    long input_stride() const { return row_stride(n_columns_ + n_attributes_); }

    long widest() const {
        int stride = std::max(op_.body.scratch_stride(), op_.head.scratch_stride());
        if (op_.context_projection) stride = std::max(stride, op_.context_projection->scratch_stride());
        for (const FoldedMlp& own : op_.own) stride = std::max(stride, own.scratch_stride());
        return stride;
    }

    // The attribute's own network, on the rows where it is observed; overwrites what the collective one said of it.
    void run_own(int attribute, long begin, long end) {
        const int first = op_.attribute_start[attribute], width = op_.attribute_start[attribute + 1] - first;
        const FoldedMlp& network = op_.own[attribute];
        const int n_in = network.n_in(), stride = row_stride(network.n_out());
        long observed[kRowsPerTask + 1];
        int rows = 0;
        for (long row = begin; row < end; ++row) {
            observed[rows] = row;
            rows += op_.mask[row * n_attributes_ + attribute] > 0;  // no branch: masks are not to be predicted
        }
        for (int r = 0; r < rows; ++r) {
            const float* x = op_.x + observed[r] * n_columns_ + first;
            float* to = in_.data() + static_cast<long>(r) * n_in;
            for (int c = 0; c < width; ++c) to[c] = x[c];
            for (int c = width; c < n_in; ++c) to[c] = 0.0f;  // networks of a group are as wide as its widest member
        }
        network.run({in_.data(), n_in}, rows, even_.data(), odd_.data(), out_.data());
        for (int r = 0; r < rows; ++r) {
            const float* from = out_.data() + static_cast<long>(r) * stride;
            for (int p = 0; p < op_.n_proposals; ++p) {
                const long to =
                    (observed[r] * op_.n_proposals + p) * n_latent_ + static_cast<long>(attribute) * latent_;
                for (int l = 0; l < latent_; ++l) mean_[to + l] = from[l];
                for (int l = 0; l < latent_; ++l) scale_[to + l] = from[latent_ + l];
            }
        }
    }

    void run_collective(int proposal, long begin, long end) {
        const int rows = static_cast<int>(end - begin);
        const float* fill = op_.fill ? op_.fill + static_cast<long>(proposal) * n_columns_ : nullptr;
        fill_unobserved({rows, n_attributes_, op_.attribute_start.data(), op_.x + begin * n_columns_,
                         op_.mask + begin * n_attributes_, fill, 0},
                        in_.data());
        op_.body.run({in_.data(), n_columns_ + n_attributes_}, rows, even_.data(), odd_.data(), hidden_.data());
        const Matrix hidden{hidden_.data(), row_stride(op_.body.n_out())};
        op_.head.run(hidden, rows, even_.data(), odd_.data(), out_.data());
        const long stride = row_stride(op_.head.n_out());
        for (long row = begin; row < end; ++row) {
            const float* from = out_.data() + (row - begin) * stride;
            const long to = (row * op_.n_proposals + proposal) * n_latent_;
            std::copy_n(from, n_latent_, mean_ + to);
            std::copy_n(from + n_latent_, n_latent_, scale_ + to);
        }
        if (!op_.context_projection) return;
        op_.context_projection->run(hidden, rows, even_.data(), odd_.data(), out_.data());
        const int width = op_.context_projection->n_out();
        for (long row = begin; row < end; ++row)
            std::copy_n(out_.data() + (row - begin) * row_stride(width), width,
                        context_ + (row * op_.n_proposals + proposal) * width);
    }
};

}  // namespace

bool propose(const Propose& op, float* mean, float* scale, float* context, int n_threads,
             const std::function<bool()>& poll) {
    const auto work = [&](RowTasks& tasks) {
        Proposer proposer(op, mean, scale, context);
        for (long begin, end; tasks.next(&begin, &end);) proposer.run(begin, end);
    };
    return parallel_rows(op.n_rows, kRowsPerTask, n_threads, work, &poll);
}

}  // namespace vsae
