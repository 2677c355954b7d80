package vmtest

import (
	"context"
	"fmt"
)

// cut cuts power when the update has come to a point, and powers on again.
func (x *run) cut(ctx context.Context, p Point) error {
	switch p {
	case WhileWriting:
		stalled := x.server.StallAfter(3 << 20)
		select {
		case <-stalled:
		case <-ctx.Done():
			return fmt.Errorf("the image was never fetched: %w", context.Cause(ctx))
		}
		defer x.server.Flow()
	case WhenArmed:
		if _, err := x.vm.Expect(ctx, `\barmed: `); err != nil {
			return err
		}
	case OnTrial:
		if _, err := x.vm.Expect(ctx, `\btrial: slot `); err != nil {
			return err
		}
	}
	x.off()
	if _, err := x.disk.Fsck(); err != nil {
		return err
	}
	return x.powerOn(ctx)
}
