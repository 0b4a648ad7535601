package secret

import "coffer/refusal"

// Attach puts labels on the new version id, moving each away from the version that had it.
// The first version with a value is current whatever was asked. Whoever loses AWSCURRENT becomes
// AWSPREVIOUS (API reference, PutSecretValue). It fails with KindLimitExceeded above 20 labels.
func (s *Secret) Attach(id string, labels []string) error {
	current := !s.HasValue()
	count := map[string]bool{}
	for _, label := range labels {
		current = current || label == Current
		count[label] = true
	}
	if current {
		count[Current] = true
	}
	if len(count) > MaxLabelsPerVersion {
		return tooManyLabels()
	}
	if s.labelsWith(labels...) > MaxLabels {
		return tooManyInAll()
	}
	for _, label := range labels {
		if label != Current {
			s.Labels = s.Labels.With(label, id)
		}
	}
	if current {
		s.promote(id)
	}
	return nil
}

// promote makes version id the current one. The version that was current becomes AWSPREVIOUS;
// every other label stays where it is.
func (s *Secret) promote(id string) {
	old := s.Labels.On(Current)
	s.Labels = s.Labels.With(Current, id)
	if old != "" && old != id {
		s.Labels = s.Labels.With(Previous, old)
	}
}

// MoveLabel is UpdateSecretVersionStage: it takes label from version from and puts it on version to.
// Either may be empty, not both. from must name the version that has the label; AWSCURRENT can be
// moved, never removed. Whether version to exists is the caller's to check.
func (s *Secret) MoveLabel(label, from, to string) error {
	on := s.Labels.On(label)
	switch {
	case from == "" && to == "":
		return refusal.Errorf(KindInvalidParameter, "You must specify MoveToVersionId, RemoveFromVersionId, or both.")
	case on != "" && from == "":
		return refusal.Errorf(KindInvalidParameter,
			"The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you "+
				"must explicitly reference that version in RemoveFromVersionId.", label, on)
	case on != from:
		return refusal.Errorf(KindInvalidParameter,
			"The staging label %s is not attached to version %s, which RemoveFromVersionId names.", label, from)
	case to == "" && label == Current:
		return refusal.Errorf(KindInvalidParameter,
			"You can't remove the staging label AWSCURRENT. Move it to another version with MoveToVersionId.")
	case to == "":
		s.Labels = s.Labels.Without(label)
		return nil
	case label == Current:
		// A version that becomes current gives AWSPREVIOUS to the old one, so it never gains more than one label.
		if on != to && len(s.LabelsOf(to)) >= MaxLabelsPerVersion && s.Labels.On(Previous) != to {
			return tooManyLabels()
		}
		s.promote(to)
		return nil
	}
	if on != to && len(s.LabelsOf(to)) >= MaxLabelsPerVersion {
		return tooManyLabels()
	}
	if s.labelsWith(label) > MaxLabels {
		return tooManyInAll()
	}
	s.Labels = s.Labels.With(label, to)
	return nil
}

func tooManyLabels() *refusal.Error {
	return refusal.Errorf(KindLimitExceeded, "A version can have at most %d staging labels.", MaxLabelsPerVersion)
}

func tooManyInAll() *refusal.Error {
	return refusal.Errorf(KindLimitExceeded, "A secret can have at most %d staging labels on all its versions.", MaxLabels)
}

// labelsWith counts the labels that s has with more, but those that the service moves by itself. Without a bound they
// would fill the secret's row until it could not be stored.
func (s *Secret) labelsWith(more ...string) int {
	of := map[string]bool{}
	for label := range s.Labels.All() {
		of[label] = true
	}
	for _, label := range more {
		of[label] = true
	}
	delete(of, Current)
	delete(of, Previous)
	return len(of)
}
