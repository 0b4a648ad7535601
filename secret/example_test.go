package secret_test

import (
	"fmt"

	"coffer/secret"
)

// Putting a value makes it current; whoever was current is previous.
func ExampleSecret_Attach() {
	s := &secret.Secret{}
	show := func() {
		fmt.Printf("current %q, previous %q, pending %q\n",
			s.Labels.On(secret.Current), s.Labels.On(secret.Previous), s.Labels.On(secret.Pending))
	}

	_ = s.Attach("one", nil) // the first value is current whatever was asked
	show()
	_ = s.Attach("two", []string{secret.Pending}) // a rotation prepares its value
	show()
	_ = s.Attach("three", []string{secret.Current})
	show()
	// Output:
	// current "one", previous "", pending ""
	// current "one", previous "", pending "two"
	// current "three", previous "one", pending "two"
}

// A label moves from the version that has it to another one. AWSCURRENT can't be taken away.
func ExampleSecret_MoveLabel() {
	s := &secret.Secret{}
	_ = s.Attach("one", nil)
	_ = s.Attach("two", []string{secret.Pending})

	fmt.Println(s.MoveLabel(secret.Current, "one", "two")) // a rotation finishes
	fmt.Println(s.Labels.On(secret.Current), s.Labels.On(secret.Previous))
	fmt.Println(s.MoveLabel(secret.Current, "two", ""))
	fmt.Println(s.MoveLabel(secret.Current, "one", "three"))
	// Output:
	// <nil>
	// two one
	// You can't remove the staging label AWSCURRENT. Move it to another version with MoveToVersionId.
	// The staging label AWSCURRENT is not attached to version one, which RemoveFromVersionId names.
}
